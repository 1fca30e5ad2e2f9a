// A server of Java. /orders adds up prices again and again, on the thread that accepts.
//
// Arguments: port, for how many milliseconds.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;

public class Orders {
    static double total;

    static double addUpPrices(int orders) {
        double sum = 0;
        for (int order = 1; order <= orders; order++) {
            sum += Math.sqrt(order) % 7;
        }
        return sum;
    }

    static void answer(HttpExchange exchange, long span) throws IOException {
        long end = System.nanoTime() + span * 1_000_000;
        while (exchange.getRequestURI().getPath().equals("/orders") && System.nanoTime() < end) {
            total += addUpPrices(100_000);
        }
        byte[] text = "ok".getBytes();
        exchange.getResponseHeaders().set("Connection", "close");
        exchange.sendResponseHeaders(200, text.length);
        exchange.getResponseBody().write(text);
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        int port = Integer.parseInt(arguments[0]);
        long span = Long.parseLong(arguments[1]);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 511);
        server.createContext("/", exchange -> answer(exchange, span));
        server.start();
    }
}
