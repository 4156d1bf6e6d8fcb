//! How far apart two colours are, by eye: what the palette's and the style sheet's tests are held to.
//!
//! Sources: WCAG 2.2 (contrast ratio), Ottosson 2020 (Oklab), Machado, Oliveira and Fernandes 2009 (matrices of severity 1).
//! Deliberately absent from the program: colours are constants, so their distances are worked out in tests alone.

/// `#rrggbb` as linear red, green and blue.
pub(super) fn linear(hex: &str) -> [f64; 3] {
    let value = u32::from_str_radix(hex.trim_start_matches('#'), 16).expect("a colour as #rrggbb");
    [16, 8, 0].map(|shift| {
        let channel = f64::from((value >> shift) & 0xff) / 255.0;
        if channel <= 0.040_45 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
    })
}

/// One colour over another at an opacity, as browsers mix: in sRGB, not in light.
pub(super) fn over(top: &str, opacity: f64, page: &str) -> String {
    let channel = |hex: &str, at: usize| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"));
    let mixed = [1, 3, 5].map(|at| opacity * channel(top, at) + (1.0 - opacity) * channel(page, at));
    mixed.iter().fold("#".to_owned(), |text, value| text + &format!("{:02x}", value.round() as u8))
}

/// From 1 to 21.
pub(super) fn contrast(one: &str, other: &str) -> f64 {
    let luminance = |hex: &str| {
        let [red, green, blue] = linear(hex);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    };
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

type Matrix = [[f64; 3]; 3];

const PROTANOPIA: Matrix =
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]];
const DEUTERANOPIA: Matrix =
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]];
const TRITANOPIA: Matrix =
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]];

/// The least distance in Oklab over the three kinds of dichromatic vision.
pub(super) fn dichromatic_distance(one: &str, other: &str) -> f64 {
    let seen = |hex: &str, by: &Matrix| oklab(times(by, linear(hex)));
    let distance = |by: &Matrix| {
        let (one, other) = (seen(one, by), seen(other, by));
        (0..3).map(|axis| (one[axis] - other[axis]).powi(2)).sum::<f64>().sqrt()
    };
    [PROTANOPIA, DEUTERANOPIA, TRITANOPIA].iter().map(distance).fold(f64::INFINITY, f64::min)
}

fn times(matrix: &Matrix, vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row.iter().zip(vector).map(|(factor, value)| factor * value).sum())
}

fn oklab(rgb: [f64; 3]) -> [f64; 3] {
    const CONES: Matrix = [
        [0.412_221_470_8, 0.536_332_536_3, 0.051_445_992_9],
        [0.211_903_498_2, 0.680_699_545_1, 0.107_396_956_6],
        [0.088_302_461_9, 0.281_718_837_6, 0.629_978_700_5],
    ];
    const LAB: Matrix = [
        [0.210_454_255_3, 0.793_617_785_0, -0.004_072_046_8],
        [1.977_998_495_1, -2.428_592_205_0, 0.450_593_709_9],
        [0.025_904_037_1, 0.782_771_766_2, -0.808_675_766_0],
    ];
    times(&LAB, times(&CONES, rgb).map(f64::cbrt))
}

#[test]
fn known_contrasts() {
    assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
    assert!((contrast("#767676", "#ffffff") - 4.54).abs() < 0.01);
    assert_eq!(over("#ff0000", 0.5, "#0000ff"), "#800080");
}
