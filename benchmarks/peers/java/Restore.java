import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.Stores;

/**
 * The peer of recovery: rebuilds a RocksDB store from its changelog, which is already there.
 * Arguments: bootstrap, source topic, partitions, state directory, application id.
 * Its changelog is APPLICATION-rows-changelog. Marks are taken as restoring starts and as it ends.
 */
public final class Restore {
    private Restore() {}

    public static void main(String[] args) throws Exception {
        int partitions = Integer.parseInt(args[2]);
        AtomicLong restored = new AtomicLong();
        AtomicInteger left = new AtomicInteger(partitions);
        CountDownLatch done = new CountDownLatch(1);
        Topology topology = new Topology();
        topology.addSource("source", new ByteArrayDeserializer(), new ByteArrayDeserializer(), args[1]);
        topology.addProcessor("keep", Keep::new, "source");
        topology.addStateStore(Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore("rows"), Serdes.ByteArray(), Serdes.ByteArray()), "keep");
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[4]);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[3]);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.restoreConsumerPrefix("max.poll.records"), 10_000);
        KafkaStreams streams = new KafkaStreams(topology, settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            private boolean started;

            @Override
            public synchronized void onRestoreStart(TopicPartition tp, String store, long start, long end) {
                if (!started) {
                    started = true;
                    Cpu.mark(0);
                }
            }

            @Override
            public void onBatchRestored(TopicPartition tp, String store, long end, long count) {
                restored.addAndGet(count);
            }

            @Override
            public void onRestoreEnd(TopicPartition tp, String store, long total) {
                if (left.decrementAndGet() == 0) {
                    Cpu.mark(restored.get());
                    done.countDown();
                }
            }
        });
        streams.start();
        done.await();
        streams.close(Duration.ofSeconds(30));
    }

    /** Never called: the source topic is empty. */
    private static final class Keep implements Processor<Object, Object, Void, Void> {
        @Override
        public void process(Record<Object, Object> record) {}
    }
}
