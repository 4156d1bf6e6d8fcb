// An interval log as hdr-histogram-js sees it, in JSON on standard output.
//
//     read_hlog.mjs FILE      each row with its tag and times, and the percentiles of the untagged ones, merged
//
// `hdr-histogram-js` is found through NODE_PATH (where tests/peers/install put it).

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const hdr = createRequire(import.meta.url)('hdr-histogram-js');

// Counts of 64 bits.
const bitBucketSize = 64;
const bounds = { lowestDiscernibleValue: 1, highestTrackableValue: 3.6e12, numberOfSignificantValueDigits: 3 };

const reader = new hdr.HistogramLogReader(readFileSync(process.argv[2], 'utf8'), bitBucketSize);
const merged = hdr.build({ ...bounds, bitBucketSize });
const rows = [];
for (let row = reader.nextIntervalHistogram(); row !== null; row = reader.nextIntervalHistogram()) {
  const tag = row.tag === 'NO TAG' ? null : row.tag;
  rows.push([tag, row.startTimeStampMsec, row.endTimeStampMsec, row.totalCount]);
  if (tag === null) merged.add(row);
}
const percentiles = [50, 75, 90, 99, 99.9, 99.99].map((percentile) => merged.getValueAtPercentile(percentile));
console.log(JSON.stringify({ rows, percentiles }));
