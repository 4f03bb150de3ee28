// What a person sees on panels, by Grafana's own code: a JSON document on stdin, one on stdout.
//
// In:  [{"panel": a panel of a board's file, "frames": [{"refId", "fields": [{"name", "type", "values", "labels"}]}]}]
// Out: [what `look` gives for the panel's type]
//
// Overrides, units, colours, reducers, sparklines and the join are those of @grafana/data. Three transformations live in
// Grafana's core, which is no package: rowsToFields, configFromData and timeSeriesTable are written here as its
// documentation describes them.
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
const { firstValueFrom } = require('rxjs');

const theme = grafana.createTheme({ colors: { mode: 'dark' } });
const joined = grafana.standardTransformers.joinByFieldTransformer;
grafana.standardTransformersRegistry.setInit(() => [{ id: joined.id, aliasIds: [], name: joined.name, transformation: joined }]);

const identity = (value) => value;
const processors = {
  unit: grafana.unitOverrideProcessor,
  min: grafana.numberOverrideProcessor,
  max: grafana.numberOverrideProcessor,
  decimals: grafana.numberOverrideProcessor,
  fieldMinMax: grafana.booleanOverrideProcessor,
  noValue: identity,
  displayName: grafana.displayNameOverrideProcessor,
  thresholds: grafana.thresholdsOverrideProcessor,
  color: identity,
  links: grafana.dataLinksOverrideProcessor,
  mappings: grafana.valueMappingsOverrideProcessor,
};
const options = () => Object.entries(processors).map(([id, process]) => ({
  id, path: id, name: id, process, shouldApply: () => true, getItemsCount: () => 0, settings: {}, editor: null, override: null,
}));
grafana.standardFieldConfigEditorRegistry.setInit(options);
const registry = new grafana.FieldConfigOptionsRegistry(options);
for (const id of ['width', 'cellOptions', 'drawStyle', 'lineStyle', 'fillOpacity', 'lineWidth', 'stacking', 'axisPlacement']) {
  registry.register({ id: `custom.${id}`, path: id, name: id, isCustom: true, process: identity, shouldApply: () => true, getItemsCount: () => 0, settings: {} });
}

// JSON has no -Infinity: Grafana puts it back when it loads a board.
function withBases(fieldConfig) {
  const config = structuredClone(fieldConfig);
  const thresholds = [config.defaults.thresholds];
  for (const { properties } of config.overrides ?? []) thresholds.push(...properties.filter(({ id }) => id === 'thresholds').map(({ value }) => value));
  for (const step of thresholds.flatMap((one) => one?.steps ?? [])) step.value ??= -Infinity;
  return config;
}

const column = (name, type, values) => ({ name, type, config: {}, values });
const first = (frame, type) => frame.fields.find((field) => field.type === type);

function rowsToFields(frame) {
  const names = first(frame, 'string');
  const values = first(frame, 'number');
  if (!names || !values) return frame;
  return grafana.createDataFrame({
    refId: frame.refId,
    fields: names.values.map((name, i) => ({ name, type: 'number', config: { ...values.config }, values: [values.values[i]] })),
  });
}

function configFromData(frames, { configRefId, mappings, applyTo }) {
  const source = frames.find((frame) => frame.refId === configRefId);
  const target = new RegExp(applyTo.options.slice(1, -1));
  for (const frame of frames) {
    for (const field of frame === source || !source ? [] : frame.fields) {
      if (field.type === 'time' || !target.test(grafana.getFieldDisplayName(field, frame, frames))) continue;
      for (const { fieldName, handlerKey } of mappings) {
        const value = source.fields.find((f) => f.name === fieldName)?.values[0];
        if (value !== undefined) field.config = { ...field.config, [handlerKey]: value };
      }
    }
  }
  return frames.filter((frame) => frame !== source);
}

function timeSeriesTable(frames) {
  const isSeries = (frame) => frame.fields[0]?.type === 'time' && frame.fields.length > 1;
  const tables = frames.filter((frame) => !isSeries(frame));
  const series = frames.filter(isSeries);
  if (!series.length) return frames;
  const values = series.flatMap((frame) => frame.fields.slice(1).map((field) => ({ frame, field })));
  const labels = Object.keys(values[0].field.labels ?? {});
  return [
    ...tables,
    grafana.createDataFrame({
      refId: series[0].refId,
      fields: [
        ...labels.map((label) => column(label, 'string', values.map(({ field }) => field.labels[label]))),
        column(`Trend #${series[0].refId}`, 'frame', values.map(({ frame, field }) => ({
          ...frame, fields: [frame.fields[0], field],
        }))),
      ],
    }),
  ];
}

async function transformed(panel, frames) {
  for (const { id, options: given, filter } of panel.transformations ?? []) {
    const chosen = (frame) => !filter || frame.refId === filter.options;
    if (id === 'rowsToFields') frames = frames.map((frame) => (chosen(frame) ? rowsToFields(frame) : frame));
    else if (id === 'configFromData') frames = configFromData(frames, given);
    else if (id === 'timeSeriesTable') frames = timeSeriesTable(frames);
    else frames = await firstValueFrom(grafana.transformDataFrame([{ id, options: given }], frames));
  }
  return frames;
}

// An empty answer is a frame without rows; Grafana's backend sends one without fields.
const filled = (frame) => frame.fields.length && frame.fields[0].values.length;

function shown(value) {
  return grafana.formattedValueToString(value);
}

const look = {
  stat: (panel, frames, fieldConfig) =>
    grafana.getFieldDisplayValues({
      data: frames, fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: identity, theme, sparkline: true, timeZone: 'utc',
    }).map(({ name, display, sparkline }) => ({
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
  const made = frames.map(({ refId, fields }) => grafana.createDataFrame({
    refId, fields: fields.map(({ name, type, values, labels }) => ({ name, type, values, labels, config: {} })),
  }));
  const fieldConfig = withBases(panel.fieldConfig);
  const data = grafana.applyFieldOverrides({
    data: await transformed(panel, made.filter(filled)), fieldConfig, fieldConfigRegistry: registry, replaceVariables: identity, theme, timeZone: 'utc',
  });
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
