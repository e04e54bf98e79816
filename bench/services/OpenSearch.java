import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.index.mapper.MapperExtrasPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

// OpenSearch starts one node of OpenSearch out of its jars, for tests: what a
// distribution has in modules is on the class path.
//
//   java -cp 'JARS/*' OpenSearch.java HOME PORT TRANSPORT-PORT
public class OpenSearch extends Node {
    OpenSearch(Environment e) {
        super(e, List.of(Netty4Plugin.class, MapperExtrasPlugin.class), false);
    }

    public static void main(String[] args) throws Exception {
        Settings s = Settings.builder()
            .put("path.home", args[0]).put("cluster.name", "weir-services").put("node.name", "one")
            .put("discovery.type", "single-node").put("network.host", "127.0.0.1")
            .put("http.type", "netty4").put("transport.type", "netty4")
            .put("http.port", args[1]).put("transport.port", args[2])
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build();
        OpenSearch node = new OpenSearch(InternalSettingsPreparer.prepareEnvironment(s, Map.of(), Path.of(args[0], "config"), () -> "one"));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception e) {
                e.printStackTrace();
            }
        }));
        node.start();
        Thread.currentThread().join();
    }
}
