// Draws a pipeline; the tables of the page have the same, so that nobody needs it.
'use strict';

/* global graphModel */

(() => {
  const SVG = 'http://www.w3.org/2000/svg';
  const HEIGHT = 30;
  const MARKS = {
    waiting: '○', running: '◐', success: '✓', failure: '✕', cancelled: '⊘', lost: '?', skipped: '–',
  };
  // Of the nodes of a namespace, the first of these is shown.
  const LOUDEST = ['failure', 'lost', 'running', 'cancelled', 'waiting', 'success', 'skipped'];

  function make(name, attributes, ...inner) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...inner);
    return element;
  }

  // What is observed must not change for nothing.
  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  class Graph {
    constructor(figure) {
      this.figure = figure;
      this.note = figure.querySelector('[data-graph-note]');
      this.datasets = document.querySelector('[data-graph-datasets]');
      this.worker = new Worker(new URL('layout_worker.js', document.querySelector('script[src*="graph.js"]').src));
      this.number = 0;
    }

    async start() {
      const response = await fetch(this.figure.dataset.graph, {headers: {Accept: 'application/json'}});
      if (!response.ok) throw new Error(`the server answers ${response.status}`);
      this.graph = await response.json();
      if (!this.graph.nodes.length) throw new Error('the pipeline has no nodes');
      this.open = graphModel.openAtFirst(this.graph);
      this.worker.onmessage = ({data}) => this.take(data);
      this.worker.onerror = () => this.say('The graph could not be laid out; the table below has its nodes.');
      this.datasets?.addEventListener('change', () => this.lay());
      new MutationObserver(() => this.colour()).observe(document.getElementById('main'), {
        subtree: true, childList: true, attributes: true, attributeFilter: ['data-state'],
      });
      addEventListener('hashchange', () => this.colour());
      this.lay();
    }

    say(text) {
      this.note.textContent = text;
      this.note.hidden = !text;
      const options = document.querySelector('[data-graph-options]');
      if (options) options.hidden = Boolean(text);
    }

    lay() {
      const {nodes, edges} = graphModel.visible(this.graph, this.open, Boolean(this.datasets?.checked));
      if (nodes.length > this.graph.most * 2) {
        this.say('Too many nodes to draw: the table below has them.');
        return;
      }
      for (const node of nodes) {
        node.width = Math.min(280, (node.kind === 'namespace' ? 80 : 44) + 7 * node.label.length);
        node.height = HEIGHT;
      }
      this.nodes = nodes;
      this.key = `graph ${this.graph.etag} ${[...this.open].sort().join(' ')} ${Boolean(this.datasets?.checked)}`;
      const kept = sessionStorage.getItem(this.key);
      if (kept) this.draw(JSON.parse(kept));
      else this.worker.postMessage({nodes, edges, number: ++this.number});
    }

    take({number, layout}) {
      if (number !== this.number) return;
      try {
        sessionStorage.setItem(this.key, JSON.stringify(layout));
      } catch {  // it is full: the next page lays it out again
        sessionStorage.clear();
      }
      this.draw(layout);
    }

    draw(layout) {
      this.say('');
      this.svg?.remove();
      const edges = layout.edges.map((points) => make('path', {class: 'edge', d: `M${points.map((each) => each.join(' ')).join('L')}`}));
      this.drawn = this.nodes.map((node) => this.drawNode(node, layout.nodes[node.id]));
      this.svg = make('svg', {
        width: layout.width, height: layout.height, viewBox: `0 0 ${layout.width} ${layout.height}`,
        role: 'group', 'aria-label': 'graph',
      }, ...edges, ...this.drawn.map(({link}) => link));
      this.figure.append(this.svg);
      this.colour();
      // A namespace that was opened is gone: the keyboard goes on with what is in it.
      this.drawn.find(({node}) => node.of.includes(this.focused))?.link.focus();
      this.focused = undefined;
    }

    drawNode(node, [x, y]) {
      const href = node.kind === 'task' ? `#node=${encodeURIComponent(node.name)}` : `#${node.id}`;
      const mark = make('text', {class: 'mark', x: x - node.width / 2 + 10, y: y + 4});
      const shown = node.label.length > 30 ? `${node.label.slice(0, 29)}…` : node.label;
      const text = make('text', {x: x - node.width / 2 + 26, y: y + 4}, node.kind === 'namespace' ? `${shown} (${node.of.length})` : shown);
      const title = make('title', {});
      const box = make('rect', {
        x: x - node.width / 2, y: y - HEIGHT / 2, width: node.width, height: HEIGHT, rx: node.kind === 'dataset' ? 15 : 5,
      });
      const link = make('a', {href, class: `node ${node.kind}`}, title, box, mark, text);
      link.addEventListener('click', (event) => this.click(event, node));
      return {node, link, mark, title};
    }

    click(event, node) {
      if (node.kind === 'namespace') {
        event.preventDefault();
        this.open.add(node.name);
        this.focused = node.of[0];
        this.lay();
      } else if (node.kind === 'task') {
        const picked = new CustomEvent('graph:pick', {detail: node.name, bubbles: true, cancelable: true});
        if (!this.figure.dispatchEvent(picked)) event.preventDefault();
      } else {
        event.preventDefault();
      }
    }

    colour() {
      const states = new Map();
      for (const row of document.querySelectorAll('tr[data-node][data-state]')) states.set(row.dataset.node, row.dataset.state);
      const planned = new Set([...document.querySelectorAll('[data-planned]')].map((each) => each.dataset.planned));
      const aimed = document.querySelector('tr.aimed')?.dataset.node;
      for (const {node, link, mark, title} of this.drawn || []) {
        const of = node.of.map((name) => states.get(name)).filter(Boolean);
        const state = LOUDEST.find((each) => of.includes(each)) || '';
        const isLeftOut = planned.size > 0 && node.kind !== 'dataset' && !node.of.some((name) => planned.has(name));
        const isAimed = node.of.includes(aimed);
        const classes = `node ${node.kind} ${state}${isLeftOut ? ' left-out' : ''}${isAimed ? ' aimed' : ''}`.trim();
        if (link.getAttribute('class') !== classes) link.setAttribute('class', classes);
        put(mark, MARKS[state] || (node.kind === 'namespace' ? '+' : ''));
        put(title, `${node.name}${state ? `: ${state}` : ''}${isLeftOut ? ', would not run' : ''}`);
      }
    }
  }

  for (const figure of document.querySelectorAll('[data-graph]')) {
    const graph = new Graph(figure);
    graph.start().catch((error) => graph.say(`No graph: ${error.message}. The table below has the nodes.`));
  }
})();
