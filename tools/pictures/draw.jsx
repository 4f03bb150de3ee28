// Draws a board in a browser with Grafana's own components. `window.board` is {from, to, panels: [{panel, frames}]}.
//
// By require: as modules these packages get their older dependencies wrapped, and two copies of @grafana/data.
const React = require('react');
const { createRoot } = require('react-dom/client');
const {
  dateTime, formattedValueToString, getDisplayProcessor, getDisplayValueAlignmentFactors, renderMarkdown, ThemeContext, VizOrientation,
} = require('@grafana/data');
const { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, TimeSeries } = require('@grafana/ui');
require('uplot/dist/uPlot.min.css');
const { filled, seen, theme, values } = require('../panels/fields');

const WIDTH = 1600, CELL = 30, GAP = 8, COLUMNS = 24;
const column = (WIDTH + GAP) / COLUMNS - GAP;

const Nothing = ({ text }) => <div style={{ display: 'grid', placeItems: 'center', height: '100%', color: theme.colors.text.secondary }}>{text}</div>;

// one below the other, or side by side
function spread(shown, width, height, wide, draw) {
  const part = (wide ? width : height) / shown.length;
  return shown.map((value, i) => (
    <div key={i} style={{ position: 'absolute', left: wide ? i * part : 0, top: wide ? 0 : i * part }}>
      {draw(value, wide ? part - 4 : width, wide ? height : part - 4)}
    </div>
  ));
}

const look = {
  stat: ({ panel, data, fieldConfig }, width, height) => {
    const shown = values(panel, data, fieldConfig);
    const { graphMode, colorMode, justifyMode, textMode } = panel.options;
    const factors = getDisplayValueAlignmentFactors(shown);
    return spread(shown, width, height, true, ({ display, sparkline }, w, h) => (
      <BigValue {...{ width: w, height: h, value: display, sparkline, graphMode, colorMode, justifyMode, textMode, theme }} alignmentFactors={factors} />
    ));
  },
  bargauge: ({ panel, data, fieldConfig }, width, height) => {
    const shown = values(panel, data, fieldConfig);
    const factors = getDisplayValueAlignmentFactors(shown);
    return spread(shown, width, height, false, ({ display, field, view, colIndex }, w, h) => (
      <BarGauge
        {...{ width: w, height: Math.min(h, 40), value: display, field, theme, alignmentFactors: factors, orientation: VizOrientation.Horizontal }}
        display={view ? view.getFieldDisplayProcessor(colIndex) : getDisplayProcessor({ field, theme })}
        displayMode={panel.options.displayMode} valueDisplayMode={panel.options.valueMode} itemSpacing={8} lcdCellWidth={12} text={panel.options.text}
      />
    ));
  },
  table: ({ panel, data }, width, height) => (
    <Table {...{ data: data[0], width, height }} columnMinWidth={panel.fieldConfig.defaults.custom.minWidth} showTypeIcons={false} />
  ),
  timeseries: ({ panel, data }, width, height) => {
    const { from, to } = window.board;
    const range = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
    return <TimeSeries {...{ frames: data.filter(filled), width, height, timeZone: 'utc', timeRange: range, legend: panel.options.legend, options: panel.options }} />;
  },
  piechart: ({ panel, data, fieldConfig }) => (
    <div style={{ padding: 8, color: theme.colors.text.secondary }}>
      {values(panel, data, fieldConfig).map(({ display }, i) => (
        <div key={i}><span style={{ color: display.color }}>●</span> {display.title} {formattedValueToString(display)}</div>
      ))}
      <div>(Grafana draws these as a pie)</div>
    </div>
  ),
};

function Content({ one, width, height }) {
  const { panel, data } = one;
  if (panel.type === 'text') return <div className="markdown-html" style={{ padding: 8 }} dangerouslySetInnerHTML={{ __html: renderMarkdown(panel.options.content) }} />;
  if (!look[panel.type]) return <Nothing text={`a running Grafana draws this: ${panel.type}`} />;
  if (!data.some(filled)) return <Nothing text={panel.fieldConfig.defaults.noValue ?? 'No data'} />;
  return <div style={{ position: 'relative', width, height }}>{look[panel.type](one, width, height)}</div>;
}

class Guard extends React.Component {
  state = {};
  static getDerivedStateFromError = (error) => ({ error });
  render = () => (this.state.error ? <Nothing text={`failed: ${this.state.error.message}`} /> : this.props.children);
}

function Board({ panels }) {
  return panels.map((one) => {
    const { x, y, w, h } = one.panel.gridPos;
    const [width, height] = [w * (column + GAP) - GAP, h * (CELL + GAP) - GAP];
    return (
      <div key={one.panel.id} style={{ position: 'absolute', left: x * (column + GAP), top: y * (CELL + GAP), width, height }}>
        <PanelChrome {...{ title: one.panel.transparent ? '' : one.panel.title, width, height }}>
          {(innerWidth, innerHeight) => <Guard><Content one={one} width={innerWidth} height={innerHeight} /></Guard>}
        </PanelChrome>
      </div>
    );
  });
}

async function main() {
  const panels = [];
  for (const one of window.board.panels) panels.push({ panel: one.panel, ...(one.panel.fieldConfig ? await seen(one) : { data: [] }) });
  createRoot(document.getElementById('board')).render(
    <ThemeContext.Provider value={theme}><GlobalStyles /><Board panels={panels} /></ThemeContext.Provider>,
  );
}

main().catch((error) => { document.body.textContent = `failed: ${error.stack}`; });
