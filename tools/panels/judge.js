// What a person sees on panels, by Grafana's own code: a JSON document on stdin, one on stdout.
//
// In:  [{"panel": a panel of a board's file, "frames": [{"refId", "fields": [{"name", "type", "values", "labels"}]}]}]
// Out: [what `look` gives for the panel's type]
'use strict';

console.log = console.info = console.warn = console.debug = () => {}; // stdout is for the answer

const { JSDOM } = require('jsdom');
const page = new JSDOM('<!doctype html>', { url: 'http://localhost/' });
for (const name of ['window', 'document', 'localStorage', 'HTMLElement', 'navigator']) {
  Object.defineProperty(globalThis, name, { value: name === 'window' ? page.window : page.window[name], configurable: true });
}
globalThis.ResizeObserver = page.window.ResizeObserver = class { observe() {} unobserve() {} disconnect() {} };
page.window.matchMedia = () => ({ matches: false, addListener() {}, removeListener() {}, addEventListener() {} });

const grafana = require('@grafana/data');
const { filled, seen, values } = require('./fields');

function shown(value) {
  return grafana.formattedValueToString(value);
}

const look = {
  stat: (panel, frames, fieldConfig) =>
    values(panel, frames, fieldConfig).map(({ name, display, sparkline }) => ({
      name, text: shown(display), color: display.color,
      line: sparkline && { points: sparkline.y.values.length, range: sparkline.y.state?.range ?? null },
    })),
  bargauge: (panel, frames, fieldConfig) => look.stat(panel, frames, fieldConfig),
  piechart: (panel, frames, fieldConfig) => look.stat(panel, frames, fieldConfig),
  table: (panel, frames) => {
    const frame = frames[0];
    if (!frame || !filled(frame)) return { columns: [], rows: [] };
    const cell = (field, i) => {
      const value = field.values[i];
      if (field.type === 'frame') return value ? `line of ${value.fields[1].values.length}` : '';
      return shown(field.display(value));
    };
    return {
      columns: frame.fields.map((field) => grafana.getFieldDisplayName(field, frame, frames)),
      rows: frame.fields[0].values.map((_, i) => frame.fields.map((field) => cell(field, i))),
    };
  },
  timeseries: (panel, frames) =>
    frames.filter(filled).flatMap((frame) => frame.fields.slice(1).map((field) => ({
      name: grafana.getFieldDisplayName(field, frame, frames),
      last: shown(field.display(field.values.at(-1))),
      points: field.values.length,
      missing: field.values.filter((value) => value === null).length,
      range: [field.config.min ?? null, field.config.max ?? null],
    }))),
};

async function judged({ panel, frames }) {
  if (!look[panel.type]) return null;
  const { data, fieldConfig } = await seen({ panel, frames });
  return look[panel.type](panel, data, fieldConfig);
}

async function main() {
  const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
  const answers = [];
  for (const one of asked) answers.push(await judged(one));
  process.stdout.write(JSON.stringify(answers));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
