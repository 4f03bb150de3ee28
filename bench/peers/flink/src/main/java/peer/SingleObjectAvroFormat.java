package peer;

import java.io.IOException;
import java.util.Arrays;
import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.formats.avro.AvroRowDataDeserializationSchema;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;

/** Flink's own Avro format behind the ten bytes of Avro's single-object encoding. */
public final class SingleObjectAvroFormat implements DeserializationFormatFactory {
  private static final int HEADER = 10;

  @Override
  public String factoryIdentifier() {
    return "avro-single-object";
  }

  @Override
  public Set<ConfigOption<?>> requiredOptions() {
    return Set.of();
  }

  @Override
  public Set<ConfigOption<?>> optionalOptions() {
    return Set.of();
  }

  @Override
  public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
      DynamicTableFactory.Context context, ReadableConfig options) {
    return new DecodingFormat<>() {
      @Override
      public DeserializationSchema<RowData> createRuntimeDecoder(
          DynamicTableSource.Context source, DataType produced) {
        RowType type = (RowType) produced.getLogicalType();
        TypeInformation<RowData> information = source.createTypeInformation(produced);
        return new BehindHeader(new AvroRowDataDeserializationSchema(type, information));
      }

      @Override
      public ChangelogMode getChangelogMode() {
        return ChangelogMode.insertOnly();
      }
    };
  }

  private record BehindHeader(AvroRowDataDeserializationSchema avro)
      implements DeserializationSchema<RowData> {
    @Override
    public void open(InitializationContext context) throws Exception {
      avro.open(context);
    }

    @Override
    public RowData deserialize(byte[] record) throws IOException {
      return avro.deserialize(Arrays.copyOfRange(record, HEADER, record.length));
    }

    @Override
    public boolean isEndOfStream(RowData row) {
      return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
      return avro.getProducedType();
    }
  }
}
