// Keys, copying, searching in tables, and the page's title and icon.
'use strict';

(() => {
  const PLACES = {n: 'Now', r: 'Runs', p: 'Pipelines', d: 'Datasets'};
  const SHAPES = {queued: '○', running: '◐', success: '✓', failure: '✕', cancelled: '⊘', lost: '?'};
  let wasG = false;

  function isTyping(target) {
    return target.matches('input, textarea, select, [contenteditable]');
  }

  // Whoever speaks to the computer must be able to do without (WCAG 2.2, 2.1.4).
  const switched = document.querySelector('[data-keys]');
  switched.checked = localStorage.getItem('keys') !== 'off';
  switched.addEventListener('change', () => localStorage.setItem('keys', switched.checked ? 'on' : 'off'));

  document.addEventListener('keydown', (event) => {
    if (!switched.checked || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    const place = wasG && PLACES[event.key];
    wasG = event.key === 'g';
    if (event.key === '/') {
      const field = document.querySelector('[data-search]');
      if (field) {
        event.preventDefault();
        field.focus();
      }
    } else if (event.key === '?') {
      document.getElementById('help').showModal();
    } else if (place) {
      const links = [...document.querySelectorAll('.top nav a')];
      links.find((link) => link.textContent.trim() === place)?.click();
    }
  });

  document.addEventListener('click', async ({target}) => {
    if (target.closest('[data-help]')) document.getElementById('help').showModal();
    const button = target.closest('[data-copy]');
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    const [said] = button.childNodes;
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = 'Copied';
    } catch {  // without TLS a browser may not let it
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      said.textContent = 'Selected: press Ctrl-C';
    }
    setTimeout(() => {
      said.textContent = 'Copy';
    }, 2000);
  });

  function filterRows() {
    for (const field of document.querySelectorAll('[data-filter-rows]')) {
      const wanted = field.value.toLowerCase();
      for (const each of document.querySelectorAll(`${field.dataset.filterRows} details`)) each.open ||= Boolean(wanted);
      for (const row of document.querySelectorAll(`${field.dataset.filterRows} tbody tr`)) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
      }
    }
  }

  function icon(status) {
    const colour = getComputedStyle(document.documentElement).getPropertyValue(`--${status}`).trim();
    const shape = SHAPES[status] || '?';
    return 'data:image/svg+xml,' + encodeURIComponent(
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><text x="8" y="13" font-size="15" ` +
      `text-anchor="middle" fill="${colour}">${shape}</text></svg>`);
  }

  function name() {
    const head = document.getElementById('run-head');
    if (!head) return;
    const project = document.title.split(' · ').at(-1);
    document.title = `${head.dataset.title} · ${project}`;
    document.querySelector('link[rel="icon"]').href = icon(head.dataset.status);
  }

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {  // it was typed
      return text;
    }
  }

  function aim() {
    const found = /^#node=(.+)$/.exec(location.hash);
    for (const row of document.querySelectorAll('.aimed')) row.classList.remove('aimed');
    if (!found) return;
    const wanted = decoded(found[1]);
    const row = [...document.querySelectorAll('tr[data-node]')].find((each) => each.dataset.node === wanted);
    if (row) {
      row.classList.add('aimed');
      row.scrollIntoView({block: 'center'});
      document.dispatchEvent(new CustomEvent('node:aim', {detail: wanted}));
    }
  }

  // A part of the address that no server is told.
  const back = document.querySelector('.sign-in [name="next"]');
  if (back) back.value += location.hash;
  document.querySelector('[aria-invalid="true"]')?.focus();

  document.addEventListener('input', filterRows);
  document.addEventListener('htmx:after:swap', () => {
    filterRows();
    name();
  });
  addEventListener('hashchange', aim);
  name();
  aim();
})();
