// Comfort alone; the page is whole without it. Holds no markup characters: it is read as XML too.
(() => {
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  // A file has storage of its own in some browsers, and none in others.
  const stored = (work) => { try { return work(localStorage); } catch { return null; } };
  const chosen = stored((storage) => storage.getItem('ringsock-theme'));
  for (const radio of all('input[name=theme]')) {
    if (radio.value === chosen) radio.checked = true;
    radio.addEventListener('change', () => stored((storage) => storage.setItem('ringsock-theme', radio.value)));
  }
  // A link to something within a closed section opens it.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.tagName === 'DETAILS') at.open = true;
    target.scrollIntoView();
  };
  addEventListener('hashchange', reveal);
  reveal();
  // Paper has no way to open anything.
  let opened = [];
  addEventListener('beforeprint', () => {
    opened = all('details:not([open])');
    for (const details of opened) details.open = true;
  });
  addEventListener('afterprint', () => { for (const details of opened) details.open = false; });
  const place = document.getElementById('open-all');
  if (place) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'all';
    button.textContent = 'Open all cells';
    button.addEventListener('click', () => {
      const cells = all('details.cell');
      const open = cells.some((cell) => !cell.open);
      for (const cell of cells) cell.open = open;
      button.textContent = open ? 'Close all cells' : 'Open all cells';
    });
    place.append(button);
  }
})();
