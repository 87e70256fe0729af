/** Regions commit on fault in a Java program whose own null checks and safepoints are faults, too. */
public class Host {
    static native long create(long pages);

    /** Touches every page of a region from native code, and returns the faults that it took. */
    static native long churn(long region, int seed);

    /** Whether somebody replaced pagewise's handlers. */
    static native boolean displaced();

    static int[] array = new int[1];
    static volatile boolean stop;

    /** Compiled, this has no check for null but the fault. */
    static int length(int[] of) {
        return of.length;
    }

    public static void main(String[] arguments) throws Exception {
        System.load(arguments[0]);
        for (int i = 0; i < 200_000; i++) length(array); // until it is compiled
        Thread[] threads = new Thread[4];
        long[] faults = new long[threads.length];
        int[] nulls = new int[threads.length];
        for (int t = 0; t < threads.length; t++) {
            int me = t;
            threads[t] = new Thread(() -> {
                long region = create(256);
                for (int round = 0; round < 20; round++) {
                    faults[me] += churn(region, round);
                    try {
                        length(null);
                    } catch (NullPointerException expected) {
                        nulls[me]++;
                    }
                    try {
                        recurse(0);
                    } catch (StackOverflowError expected) {
                        nulls[me]++;
                    }
                }
            });
            threads[t].start();
        }
        // Safepoints: threads that loop in compiled code are stopped by a page that faults.
        Thread garbage = new Thread(() -> {
            long kept = 0;
            while (!stop) {
                byte[] some = new byte[1 << 20];
                kept += some.length;
                if ((kept & ((64 << 20) - 1)) == 0) System.gc();
            }
        });
        garbage.start();
        for (Thread thread : threads) thread.join();
        stop = true;
        garbage.join();
        for (int t = 0; t < threads.length; t++) {
            if (nulls[t] != 40) throw new AssertionError("null checks: " + nulls[t]);
            if (faults[t] < 20 * 256) throw new AssertionError("faults: " + faults[t]);
        }
        if (displaced()) throw new AssertionError("displaced");
        System.out.println("java: " + threads.length * 20 * 256 + " pages, every null check and overflow caught");
    }

    static int recurse(int depth) {
        return depth < 0 ? 0 : recurse(depth + 1) + 1;
    }
}
