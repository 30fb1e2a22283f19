// Follows a log while one is at its end, filters it, and leads to a line of it.
'use strict';

(() => {
  const MOST = 3000;
  const NEAR_PX = 40;
  const log = document.getElementById('log');
  const form = document.querySelector('[data-log-filter]');
  const button = document.querySelector('[data-log-end]');
  if (!log) return;
  let follows = !location.hash.startsWith('#L');
  // Of a part of the log that does not reach to its end, the number of its last line.
  let lastOfPart = null;

  const numberOf = (line) => Number(line.id.slice(1));
  const lines = () => [...log.querySelectorAll('.line')];

  function toEnd() {
    log.scrollTop = log.scrollHeight;
  }

  function isAtEnd() {
    return log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_PX;
  }

  function show() {
    button.hidden = follows && lastOfPart === null;
  }

  function filter() {
    const node = form.elements.node.value;
    const text = form.elements.q.value.toLowerCase();
    for (const line of lines()) {
      const isWanted = (!node || line.dataset.node === node) &&
        (!text || line.querySelector('.message').textContent.toLowerCase().includes(text));
      if (line.hidden === isWanted) line.hidden = !isWanted;
    }
  }

  // Those that go can be asked for again.
  function trim() {
    const all = lines();
    const surplus = all.slice(0, Math.max(0, all.length - MOST));
    if (!surplus.length) return;
    for (const line of surplus) line.remove();
    const earlier = log.querySelector('[data-earlier]');
    const link = earlier.querySelector('a');
    const url = new URL(link.href);
    url.searchParams.set('before', numberOf(all[surplus.length]));
    link.href = url.pathname + url.search;
    link.setAttribute('hx-get', link.getAttribute('href'));
    earlier.hidden = false;
  }

  async function load(before) {
    const url = new URL(form.getAttribute('hx-get'), location.href);
    if (before) url.searchParams.set('before', String(before));
    await htmx.ajax('GET', url.pathname + url.search, {source: log, target: '#log-lines', swap: 'outerHTML'});
  }

  async function aim() {
    const found = /^#L(\d+)$/.exec(location.hash);
    if (!found) return;
    follows = false;
    form.elements.q.value = form.elements.node.value = '';
    filter();
    if (!document.getElementById(`L${found[1]}`)) {
      await load(Number(found[1]) + 100);
      lastOfPart = Math.max(...lines().map(numberOf));
    }
    for (const line of log.querySelectorAll('.aimed')) line.classList.remove('aimed');
    const line = document.getElementById(`L${found[1]}`);
    line?.scrollIntoView({block: 'center'});
    line?.classList.add('aimed');
    show();
  }

  function address() {
    const url = new URL(location.href);
    for (const name of ['q', 'node']) {
      const {value} = form.elements[name];
      if (value) url.searchParams.set(name, value);
      else url.searchParams.delete(name);
    }
    history.replaceState(null, '', url);
  }

  log.addEventListener('scroll', () => {
    follows = isAtEnd();
    show();
  });
  button.addEventListener('click', async () => {
    if (lastOfPart !== null) {
      lastOfPart = null;
      await load();
    }
    follows = true;
    toEnd();
    show();
  });
  form.addEventListener('input', () => {
    lastOfPart = null;
    filter();
    address();
  });
  document.addEventListener('htmx:after:swap', () => {
    if (!log.isConnected) return;
    document.getElementById('log-empty')?.toggleAttribute('hidden', lines().length > 0);
    if (lastOfPart !== null) {
      for (const line of lines()) if (numberOf(line) > lastOfPart) line.remove();
    }
    filter();
    if (follows) {
      trim();
      toEnd();
    }
  });
  // A node leads to its lines.
  document.addEventListener('node:aim', ({detail}) => {
    const options = [...form.elements.node.options].map((option) => option.value);
    if (!options.includes(detail)) return;
    form.elements.node.value = detail;
    form.elements.node.dispatchEvent(new Event('input', {bubbles: true}));
  });
  addEventListener('hashchange', aim);
  if (follows) toEnd();
  aim();
})();
