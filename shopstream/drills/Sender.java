import java.io.DataInputStream;
import java.io.EOFException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Sends the records of a file with Java's own client; the console producer sends text only. */
public class Sender {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("compression.type", arguments[2]);
        ByteArraySerializer bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes);
                DataInputStream records = new DataInputStream(Files.newInputStream(Path.of(arguments[3])))) {
            while (true) {
                byte[] key;
                try {
                    key = next(records);
                } catch (EOFException end) {
                    break;
                }
                producer.send(new ProducerRecord<>(arguments[1], key, next(records)));
            }
        }
    }

    private static byte[] next(DataInputStream records) throws Exception {
        int length = records.readInt();
        return length < 0 ? null : records.readNBytes(length);
    }
}
