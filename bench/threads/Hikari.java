import com.sun.management.OperatingSystemMXBean;
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.logging.Logger;
import javax.sql.DataSource;

/**
 * HikariCP over connections that do nothing. Debian: libhikaricp-java, default-jdk-headless. Options, figures and what is printed are
 * those of measure.h.
 */
final class Hikari {
  static final int BUCKETS = 60 * 32;
  static final int NOTHING = 0, YIELD = 1, SLEEP = 2;

  static final Map<String, String> given = new HashMap<>();
  static int held;
  static volatile long begin = Long.MAX_VALUE, end = Long.MAX_VALUE;
  static volatile boolean isOver;

  /** Where connections come from. */
  static final class Source implements DataSource {
    public Connection getConnection() { return new StubConnection(); }
    public Connection getConnection(String user, String password) { return new StubConnection(); }
    public PrintWriter getLogWriter() { return null; }
    public void setLogWriter(PrintWriter out) {}
    public int getLoginTimeout() { return 0; }
    public void setLoginTimeout(int seconds) {}
    public Logger getParentLogger() { return null; }
    public boolean isWrapperFor(Class<?> type) { return false; }
    public <T> T unwrap(Class<T> type) { return null; }
  }

  static String option(String name, String otherwise) { return given.getOrDefault("--" + name, otherwise); }

  static int number(String name, int otherwise) { return Integer.parseInt(option(name, "" + otherwise)); }

  static HikariDataSource open(int connections) throws Exception {
    HikariConfig config = new HikariConfig();
    config.setDataSource(new Source());
    config.setMaximumPoolSize(connections);
    config.setMinimumIdle(connections);
    config.setConnectionTimeout(3_600_000);
    HikariDataSource pool = new HikariDataSource(config);
    while (pool.getHikariPoolMXBean() == null || pool.getHikariPoolMXBean().getTotalConnections() < connections) Thread.sleep(10);
    return pool;
  }

  static int bucketOf(long ns) {
    if (ns < 32) return (int) ns;
    int shift = 58 - Long.numberOfLeadingZeros(ns);
    return shift * 32 + (int) (ns >> shift);
  }

  static long bucketMost(int bucket) {
    int shift = bucket < 64 ? 0 : bucket / 32 - 1;
    return ((bucket - shift * 32L + 1) << shift) - 1;
  }

  static final class Worker extends Thread {
    // Stored without a barrier, as in C; apart from those of other threads, as each is followed by its histogram.
    final AtomicLong pairs = new AtomicLong();
    final int[] waits = new int[BUCKETS];
    final HikariDataSource pool;
    final boolean isTimed;
    long slept, sleeps, began, half, ended;

    Worker(HikariDataSource pool, boolean isTimed) {
      super(null, null, "", 256 * 1024);
      this.pool = pool;
      this.isTimed = isTimed;
    }

    void hold() throws InterruptedException {
      if (held == YIELD) {
        Thread.yield();
      } else if (held == SLEEP) {
        boolean counts = begin != Long.MAX_VALUE;
        long before = System.nanoTime();
        Thread.sleep(1);
        if (counts && !isOver) {
          slept += System.nanoTime() - before;
          sleeps++;
        }
      }
    }

    void rate() throws Exception {
      while (!isOver) {
        Connection lease = pool.getConnection();
        hold();
        lease.close();
        pairs.lazySet(pairs.getPlain() + 1);
      }
    }

    void timed() throws Exception {
      while (!isOver) {
        long asked = System.nanoTime();
        Connection lease = pool.getConnection();
        long got = System.nanoTime();
        if (got >= begin && asked < end) waits[bucketOf(got - asked)]++;
        hold();
        lease.close();
        pairs.lazySet(pairs.getPlain() + 1);
      }
    }

    @Override
    public void run() {
      try {
        if (isTimed) timed();
        else rate();
      } catch (Exception failure) {
        failure.printStackTrace();
        System.exit(1);
      }
    }
  }

  static double cpu() { return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime() / 1e9; }

  static double resident() throws Exception { return Double.parseDouble(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]) * 4096; }

  static double live() {
    for (int i = 0; i < 3; i++) System.gc();
    return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
  }

  static void reportMemory(int connections) throws Exception {
    double liveBefore = live(), residentBefore = resident();
    HikariDataSource pool = open(connections);
    double liveNow = live();
    System.out.printf("peer=hikari measure=memory connections=%d resident=%.1f live=%.1f%n", connections,
        (resident() - residentBefore) / connections, (liveNow - liveBefore) / connections);
    pool.close();
  }

  static void reportWaits(Worker[] workers) {
    long[] sum = new long[BUCKETS];
    long total = 0;
    for (Worker one : workers) {
      for (int bucket = 0; bucket < BUCKETS; bucket++) {
        sum[bucket] += one.waits[bucket];
        total += one.waits[bucket];
      }
    }
    String[] names = {"p50", "p99", "p99.9", "p99.99", "longest"};
    double[] quantiles = {0.5, 0.99, 0.999, 0.9999, 1};
    for (int i = 0; i < names.length; i++) {
      long below = 0;
      int bucket = 0;
      while (bucket < BUCKETS - 1 && below + sum[bucket] < quantiles[i] * total) below += sum[bucket++];
      System.out.printf(" %s=%d", names[i], bucketMost(bucket));
    }
  }

  static void report(Worker[] workers, String measure, int connections, long span, double spent) {
    long all = 0, first = 0, least = Long.MAX_VALUE, most = 0, slept = 0, sleeps = 0;
    for (Worker one : workers) {
      long pairs = one.ended - one.began;
      all += pairs;
      first += one.half - one.began;
      least = Math.min(least, pairs);
      most = Math.max(most, pairs);
      slept += one.slept;
      sleeps += one.sleeps;
    }
    System.out.printf("peer=hikari measure=%s threads=%d connections=%d held=%s seconds=%.3f", measure, workers.length, connections,
        option("held", "nothing"), span / 1e9);
    System.out.printf(" pairs_s=%.0f least=%d mean=%.1f most=%d cpu_s=%.3f first_half=%.3f", all * 1e9 / span, least,
        (double) all / workers.length, most, spent, (double) first / all);
    if (held == SLEEP) System.out.printf(" held_ns=%.0f", (double) slept / sleeps);
    if (measure.equals("wait")) reportWaits(workers);
    System.out.println();
  }

  public static void main(String[] words) throws Exception {
    for (int i = 0; i + 1 < words.length; i += 2) given.put(words[i], words[i + 1]);
    String measure = option("measure", "rate");
    int connections = number("connections", 10);
    held = Map.of("nothing", NOTHING, "yield", YIELD, "sleep", SLEEP).get(option("held", "nothing"));
    if (measure.equals("memory")) {
      reportMemory(connections);
      return;
    }
    cpu(); // the first time it loads classes, which takes long
    HikariDataSource pool = open(connections);
    Worker[] workers = new Worker[number("threads", 1)];
    for (int i = 0; i < workers.length; i++) {
      workers[i] = new Worker(pool, measure.equals("wait"));
      workers[i].start();
    }
    long half = (long) (Double.parseDouble(option("seconds", "1")) * 500);
    Thread.sleep((long) (Double.parseDouble(option("warmup", "1")) * 1000));
    for (Worker one : workers) one.began = one.pairs.get();
    double spent = cpu();
    long from = System.nanoTime();
    begin = from;
    Thread.sleep(half);
    for (Worker one : workers) one.half = one.pairs.get();
    Thread.sleep(half);
    for (Worker one : workers) one.ended = one.pairs.get();
    long until = System.nanoTime();
    spent = cpu() - spent;
    end = until;
    isOver = true;
    for (Worker one : workers) one.join();
    report(workers, measure, connections, until - from, spent);
    pool.close();
  }
}
