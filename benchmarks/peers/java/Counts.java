import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyWindowStore;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The peer: counts per user and verb in 5-minute event-time windows, in RocksDB with a changelog.
 * Arguments: bootstrap, topic, activities, state directory, dump file, application id, verbs by commas.
 * Every value is parsed once, by Jackson's streaming parser; one row of counts per (user, window).
 */
public final class Counts {
    private static final JsonFactory JSON = new JsonFactory();
    private static final long MARK_EVERY = 50_000;

    private Counts() {}

    public static void main(String[] args) throws Exception {
        long activities = Long.parseLong(args[2]);
        List<String> verbs = Arrays.asList(args[6].split(","));
        AtomicLong processed = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        StreamsBuilder builder = new StreamsBuilder();
        TimeWindows windows = TimeWindows.ofSizeAndGrace(Duration.ofMinutes(5), Duration.ofHours(2));
        builder.stream(args[1], Consumed.with(Serdes.String(), Serdes.ByteArray())
                .withTimestampExtractor(new EventTime()))
            .mapValues(value -> verb(value, verbs))
            .groupByKey(Grouped.with(Serdes.String(), Serdes.Integer()))
            .windowedBy(windows)
            .aggregate(() -> new byte[4 * verbs.size()], (user, verb, counts) -> {
                ByteBuffer row = ByteBuffer.wrap(counts.clone());
                row.putInt(4 * verb, row.getInt(4 * verb) + 1);
                long n = processed.incrementAndGet();
                if (n % MARK_EVERY == 0 || n == activities) {
                    Cpu.mark(n);
                }
                if (n == activities) {
                    done.countDown();
                }
                return row.array();
            }, Materialized.<String, byte[], WindowStore<Bytes, byte[]>>as("counts")
                .withKeySerde(Serdes.String()).withValueSerde(Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(args));
        streams.setUncaughtExceptionHandler((Throwable error) -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.start();
        done.await();
        dump(streams, Path.of(args[4]), verbs.size());
        streams.close(Duration.ofSeconds(30));
    }

    private static Properties settings(String[] args) {
        Properties found = new Properties();
        found.put(StreamsConfig.APPLICATION_ID_CONFIG, args[5]);
        found.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        found.put(StreamsConfig.STATE_DIR_CONFIG, args[3]);
        found.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        found.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        found.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        // Without this it stalls when one partition runs dry: a fetch on it long-polls for 500 ms.
        found.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 20);
        return found;
    }

    /** Index of the record's verb. */
    private static Integer verb(byte[] value, List<String> verbs) {
        return verbs.indexOf(text(value, "verb"));
    }

    private static String text(byte[] value, String field) {
        try (JsonParser parser = JSON.createParser(value)) {
            String found = "";
            while (parser.nextToken() != null) {
                if (parser.currentToken() == JsonToken.FIELD_NAME && parser.currentName().equals(field)) {
                    parser.nextToken();
                    found = parser.getText();
                }
            }
            return found;
        } catch (IOException error) {
            throw new IllegalArgumentException("a value is not JSON", error);
        }
    }

    private static void dump(KafkaStreams streams, Path file, int verbs) throws IOException {
        ReadOnlyWindowStore<String, byte[]> store = streams.store(
            StoreQueryParameters.fromNameAndType("counts", QueryableStoreTypes.windowStore()));
        try (BufferedWriter out = Files.newBufferedWriter(file);
             KeyValueIterator<Windowed<String>, byte[]> all = store.all()) {
            while (all.hasNext()) {
                var entry = all.next();
                ByteBuffer row = ByteBuffer.wrap(entry.value);
                for (int verb = 0; verb < verbs; verb++) {
                    if (row.getInt(4 * verb) != 0) {
                        out.write(Integer.parseInt(entry.key.key().substring(2)) + "," + entry.key.window().start()
                            + "," + verb + "," + row.getInt(4 * verb) + "\n");
                    }
                }
            }
        }
    }

    /** Record time is event time on this topic, so that the value need not be parsed for it. */
    private static final class EventTime implements TimestampExtractor {
        @Override
        public long extract(ConsumerRecord<Object, Object> record, long partitionTime) {
            return record.timestamp();
        }
    }
}
