// What Grafana does with a panel's frames before it is drawn: transformations, overrides, units, colours, by @grafana/data.
//
// Three transformations live in Grafana's core, which is no package: rowsToFields, configFromData and timeSeriesTable are
// written here as its documentation describes them.
'use strict';

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

// what a panel's plugin registers: all that its file has
function know({ defaults, overrides = [] }) {
  const own = overrides.flatMap(({ properties }) => properties.map(({ id }) => id)).filter((id) => id.startsWith('custom.'));
  for (const id of [...Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`), ...own]) {
    if (registry.getIfExists(id)) continue;
    registry.register({ id, path: id.slice('custom.'.length), name: id, isCustom: true, process: identity, shouldApply: () => true, getItemsCount: () => 0, settings: {} });
  }
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

// A panel's frames as a person sees them.
async function seen({ panel, frames }) {
  const made = frames.map(({ refId, fields }) => grafana.createDataFrame({
    refId, fields: fields.map(({ name, type, values, labels }) => ({ name, type, values, labels, config: {} })),
  }));
  know(panel.fieldConfig);
  const fieldConfig = withBases(panel.fieldConfig);
  const data = grafana.applyFieldOverrides({
    data: await transformed(panel, made.filter(filled)), fieldConfig, fieldConfigRegistry: registry, replaceVariables: identity, theme, timeZone: 'utc',
  });
  return { data, fieldConfig };
}

// The values of a stat, bars or slices.
function values(panel, data, fieldConfig) {
  return grafana.getFieldDisplayValues({
    data, fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: identity, theme, sparkline: true, timeZone: 'utc',
  });
}

module.exports = { seen, values, filled, theme };
