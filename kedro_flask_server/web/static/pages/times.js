// Shows times in the reader's zone, and how long something has taken so far.
'use strict';

(() => {
  const DAY_S = 24 * 3600;
  const date = new Intl.DateTimeFormat(undefined, {dateStyle: 'medium', timeStyle: 'short'});
  const relative = new Intl.RelativeTimeFormat('en', {numeric: 'auto'});

  function ago(seconds) {
    if (seconds < 5) return 'just now';
    if (seconds < 60) return relative.format(-Math.round(seconds), 'second');
    if (seconds < 3600) return relative.format(-Math.round(seconds / 60), 'minute');
    return relative.format(-Math.round(seconds / 3600), 'hour');
  }

  function duration(seconds) {
    if (seconds < 60) return `${seconds.toFixed(1)} s`;
    const pad = (number) => String(number).padStart(2, '0');
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${pad(Math.floor(seconds % 60))} s`;
    const minutes = Math.floor(seconds / 60);
    return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
  }

  function since(text) {
    return Math.max(0, (Date.now() - new Date(text).getTime()) / 1000);
  }

  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function update() {
    for (const time of document.querySelectorAll('time[datetime]')) {
      const passed = since(time.dateTime);
      put(time, passed < DAY_S ? ago(passed) : date.format(new Date(time.dateTime)));
    }
    for (const element of document.querySelectorAll('[data-since]')) {
      const passed = since(element.dataset.since);
      put(element, 'ago' in element.dataset ? ago(passed) : duration(passed));
    }
  }

  update();
  setInterval(update, 1000);
  document.addEventListener('htmx:after:swap', update);
})();
