package peer;

import java.util.HashSet;
import java.util.Set;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.functions.ScalarFunction;
import org.apache.flink.table.functions.TableFunction;

/** Functions over the items of an event, on Flink's internal rows: nothing is converted. */
public final class Items {
  private static final String TYPE =
      "ARRAY<ROW<product_id STRING NOT NULL, category STRING NOT NULL, quantity INT NOT NULL,"
          + " unit_price_minor BIGINT NOT NULL> NOT NULL> NOT NULL";
  private static final int FIELDS = 4;

  /** The sum of the quantities. */
  public static final class Units extends ScalarFunction {
    public @DataTypeHint("BIGINT NOT NULL") Long eval(
        @DataTypeHint(value = TYPE, bridgedTo = ArrayData.class) ArrayData items) {
      long units = 0;
      for (int i = 0; i < items.size(); i++) {
        units += items.getRow(i, FIELDS).getInt(2);
      }
      return units;
    }
  }

  /** The sum of quantity times price. */
  public static final class TotalMinor extends ScalarFunction {
    public @DataTypeHint("BIGINT NOT NULL") Long eval(
        @DataTypeHint(value = TYPE, bridgedTo = ArrayData.class) ArrayData items) {
      long total = 0;
      for (int i = 0; i < items.size(); i++) {
        RowData item = items.getRow(i, FIELDS);
        total += item.getInt(2) * item.getLong(3);
      }
      return total;
    }
  }

  /** A row per item; once is 1 for the first of its product and category in the event, else 0. */
  @FunctionHint(
      output =
          @DataTypeHint(
              value =
                  "ROW<product_id STRING NOT NULL, category STRING NOT NULL, quantity INT NOT NULL,"
                      + " unit_price_minor BIGINT NOT NULL, once INT NOT NULL>",
              bridgedTo = RowData.class))
  public static final class Rows extends TableFunction<RowData> {
    public void eval(@DataTypeHint(value = TYPE, bridgedTo = ArrayData.class) ArrayData items) {
      Set<String> seen = items.size() > 1 ? new HashSet<>() : Set.of();
      for (int i = 0; i < items.size(); i++) {
        RowData item = items.getRow(i, FIELDS);
        StringData product = item.getString(0);
        StringData category = item.getString(1);
        boolean first = items.size() == 1 || seen.add(product + "\0" + category);
        collect(
            GenericRowData.of(
                product, category, item.getInt(2), item.getLong(3), first ? 1 : 0));
      }
    }
  }

  private Items() {}
}
