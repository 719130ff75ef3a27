// A tars-core client that the tests drive: commands on standard input, answers on standard output, a JSON
// object a line. ../README.md has the contract that it shares with the other clients.

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.qq.tars.client.Communicator;
import com.qq.tars.client.CommunicatorConfig;
import com.qq.tars.client.CommunicatorFactory;
import com.qq.tars.client.ObjectProxy;
import com.qq.tars.common.support.Holder;
import com.qq.tars.common.util.Constants;
import com.qq.tars.rpc.common.Invoker;
import com.qq.tars.rpc.common.ProtocolInvoker;
import com.qq.tars.rpc.common.Url;
import com.qq.tars.support.query.prx.EndpointF;
import com.qq.tars.support.query.prx.QueryFPrx;

import java.io.BufferedReader;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

public final class Client {
    private static final Gson JSON = new GsonBuilder().disableHtmlEscaping().serializeNulls().create();

    private final String locator;
    private final Communicator communicator;
    private final QueryFPrx query;
    private final Map<String, Hello> proxies = new HashMap<>();

    public static void main(String[] argv) throws Exception {
        // Standard output is for answers only.
        PrintStream answers = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        Map<String, String> options = new HashMap<>(Map.of("--refresh-ms", "60000"));
        for (int i = 0; i < argv.length; i += 2) {
            if (!List.of("--locator", "--refresh-ms", "--set").contains(argv[i]) || i + 1 == argv.length) {
                System.err.println("unexpected argument: " + argv[i]);
                System.exit(2);
            }
            options.put(argv[i], argv[i + 1]);
        }
        int refresh = Integer.parseInt(options.get("--refresh-ms"));
        if (!options.containsKey("--locator") || refresh < 1) {
            System.err.println("--locator is needed, --refresh-ms at least 1");
            System.exit(2);
        }
        Client client = new Client(options.get("--locator"), refresh, options.get("--set"));
        answers.println(JSON.toJson(answer("ready", true, "client", "tars-core " + version())));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(), op = ""; line != null && !op.equals("quit"); ) {
            Map<String, Object> answer;
            try {
                JsonObject command = JsonParser.parseString(line).getAsJsonObject();
                op = text(command, "op");
                answer = client.run(op, command);
            } catch (Throwable error) {
                answer = answer("ok", false, "error", reason(error));
            }
            answers.println(JSON.toJson(answer));
            line = op.equals("quit") ? null : lines.readLine();
        }
        System.exit(0); // the library's threads would keep the process
    }

    Client(String locator, int refresh, String set) throws Exception {
        this.locator = locator;
        // The library keeps what it resolved in a file: there must be none that hides what the registry says.
        Path here = Path.of("").toAbsolutePath();
        Files.deleteIfExists(here.resolve(Constants.SERVER_NODE_CACHE_FILENAME));
        CommunicatorConfig config = new CommunicatorConfig()
                .setLocator(locator)
                .setRefreshEndpointInterval(refresh)
                .setDataPath(here.toString())
                .setStat(""); // no call statistics: they would ask the registry for tars.tarsstat.StatObj
        if (set != null) {
            config.setSetDivision(set);
        }
        communicator = CommunicatorFactory.getInstance().getCommunicator(config);
        query = communicator.stringToProxy(QueryFPrx.class, locator); // the same that the library itself uses
        withoutRandomDelay(query);
        // A registry that once refused a connection is left alone for 30 s: here no longer than for a refresh.
        ((ObjectProxy<?>) Proxy.getInvocationHandler(query)).getConfig()
                .setTryTimeInterval(Math.max(1, Math.min(30, refresh / 1000)));
    }

    private Map<String, Object> run(String op, JsonObject command) throws Exception {
        switch (op) {
            case "call":
                Holder<String> rsp = new Holder<>("");
                int ret = proxy(text(command, "obj")).testHello(text(command, "text"), rsp);
                return answer("ok", true, "ret", ret, "rsp", rsp.value);
            case "endpoints":
                return endpoints(text(command, "obj"));
            case "query":
                return ask(text(command, "function"), text(command, "id"), command);
            case "quit":
                return answer("ok", true);
            default:
                throw new IllegalArgumentException("no such op: " + op);
        }
    }

    /** An object's proxy is made once and kept: from then on the library refreshes it. */
    private Hello proxy(String obj) throws Exception {
        if (obj.isEmpty()) {
            throw new IllegalArgumentException("obj is missing");
        }
        Hello proxy = proxies.get(obj);
        if (proxy == null) {
            proxy = communicator.stringToProxy(Hello.class, obj);
            withoutRandomDelay(proxy);
            proxies.put(obj, proxy);
        }
        return proxy;
    }

    /**
     * The library adds 0 to 29 s at random to the interval before the first refresh of a proxy, and again after
     * every refresh that changed something. There is no setting for it: make its random number 0, and have it
     * plan the refresh anew.
     */
    private static void withoutRandomDelay(Object proxy) throws Exception {
        Object handler = Proxy.getInvocationHandler(proxy);
        Field random = ObjectProxy.class.getDeclaredField("random");
        random.setAccessible(true);
        random.set(handler, new Random() {
            @Override
            public int nextInt(int bound) {
                return 0;
            }
        });
        Method plan = ObjectProxy.class.getDeclaredMethod("registryServantNodeRefresher");
        plan.setAccessible(true);
        plan.invoke(handler);
    }

    /** What the library holds; for the registry's own object what it reaches the registry by. */
    private Map<String, Object> endpoints(String obj) throws Exception {
        Object proxy = query;
        if (!obj.equals(locator.split("@")[0])) {
            try {
                proxy = proxy(obj);
            } catch (RuntimeException error) {
                // No proxy without endpoints in this library: as the others, answer that there are none.
                return answer("ok", true, "endpoints", List.of(), "error", reason(error));
            }
        }
        Field held = ObjectProxy.class.getDeclaredField("protocolInvoker");
        held.setAccessible(true);
        ProtocolInvoker<?> invokers = (ProtocolInvoker<?>) held.get(Proxy.getInvocationHandler(proxy));
        List<Url> urls = new ArrayList<>();
        for (Invoker<?> invoker : invokers.getInvokers()) {
            urls.add(invoker.getUrl());
        }
        urls.sort(Comparator.comparing(Url::getHost).thenComparingInt(Url::getPort));
        List<Object> endpoints = new ArrayList<>();
        for (Url url : urls) {
            String set = url.getParameter(Constants.TARS_CLIENT_SETDIVISION);
            endpoints.add(answer(
                    "host", url.getHost(),
                    "port", url.getPort(),
                    "istcp", url.getParameter(Constants.TARS_CLIENT_UDPMODE, false) ? 0 : 1,
                    "setId", set == null ? "" : set,
                    "weight", url.getParameter(Constants.TARS_CLIENT_WEIGHT, 0),
                    "weightType", url.getParameter(Constants.TARS_CLIENT_WEIGHT_TYPE, 0)));
        }
        return answer("ok", true, "endpoints", endpoints);
    }

    /** A function of QueryF with the library's own stub. */
    private Map<String, Object> ask(String function, String id, JsonObject command) {
        int ret = 0;
        Holder<List<EndpointF>> active = new Holder<>(new ArrayList<>());
        Holder<List<EndpointF>> inactive = new Holder<>(new ArrayList<>());
        switch (function) {
            case "findObjectById":
                active.value = query.findObjectById(id);
                break;
            case "findObjectById4Any":
                ret = query.findObjectById4Any(id, active, inactive);
                break;
            case "findObjectById4All":
                ret = query.findObjectById4All(id, active, inactive);
                break;
            case "findObjectByIdInSameGroup":
                ret = query.findObjectByIdInSameGroup(id, active, inactive);
                break;
            case "findObjectByIdInSameStation":
                ret = query.findObjectByIdInSameStation(id, text(command, "station"), active, inactive);
                break;
            case "findObjectByIdInSameSet":
                ret = query.findObjectByIdInSameSet(id, text(command, "set"), active, inactive);
                break;
            default:
                throw new IllegalArgumentException("no such function: " + function);
        }
        for (List<EndpointF> list : List.of(active.value, inactive.value)) {
            for (EndpointF endpoint : list) {
                endpoint.setId = endpoint.setId == null ? "" : endpoint.setId; // null where it was left out
            }
        }
        return answer("ok", true, "ret", ret, "active", active.value, "inactive", inactive.value);
    }

    private static String text(JsonObject command, String key) {
        return command.has(key) ? command.get(key).getAsString() : "";
    }

    private static Map<String, Object> answer(Object... pairs) {
        Map<String, Object> map = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            map.put((String) pairs[i], pairs[i + 1]);
        }
        return map;
    }

    private static String reason(Throwable error) {
        while (error.getCause() != null && error.getCause() != error) {
            error = error.getCause();
        }
        return error.toString();
    }

    /** The version that is really on the class path: the jar is named by it. */
    private static String version() {
        String jar = Communicator.class.getProtectionDomain().getCodeSource().getLocation().getPath();
        return jar.replaceAll(".*tars-core-(.*)\\.jar", "$1");
    }
}
