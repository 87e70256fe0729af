import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * A region as memory of a Java program, by JNI: direct buffers over memory that grows in place, and an exception for a
 * refusal. grow_in_place.c has the native half; docs/c.md says how to compile both.
 *
 * <p>A buffer does not keep its region alive: no buffer may be used after {@link #close}.
 */
public class GrowInPlace implements AutoCloseable {
    /** A limit is used up. */
    public static class Refused extends RuntimeException {
        private static final long serialVersionUID = 1;

        public Refused(String message) {
            super(message);
        }
    }

    private static native long create(long limit);

    private static native ByteBuffer view(long region, long bytes);

    private static native ByteBuffer commit(long region, long from, long to);

    private static native long committed(long region);

    private static native void free(long region);

    static native int pageSize();

    private long region;
    private long length;

    /** At most {@code limit} bytes of memory; none is used yet. */
    public GrowInPlace(long limit) {
        region = create(limit);
    }

    /** Commits {@code by} more bytes, and returns a view of all. Earlier views stay valid. */
    public ByteBuffer grow(long by) {
        ByteBuffer all = commit(region, length, length + by);
        length += by;
        return all.order(ByteOrder.nativeOrder());
    }

    /** A view of bytes that commit themselves when they are touched; of as many as the limit allows. */
    public ByteBuffer onTouch(long bytes) {
        return view(region, bytes).order(ByteOrder.nativeOrder());
    }

    public long committed() {
        return committed(region);
    }

    @Override
    public void close() {
        free(region);
        region = 0;
    }

    private static void check(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    /** Gets hot, so that compiled code touches the pages, too. */
    private static long touch(ByteBuffer bytes, int page) {
        long sum = 0;
        for (int at = 0; at < bytes.capacity(); at += page) {
            bytes.putInt(at, bytes.getInt(at) + at);
            sum += bytes.getInt(at);
        }
        return sum;
    }

    public static void main(String[] arguments) {
        System.load(arguments[0]);
        int page = pageSize();
        try (GrowInPlace memory = new GrowInPlace(8L * page)) {
            ByteBuffer first = memory.grow(2L * page);
            first.putLong(8, 0x68656c6c6fL);
            ByteBuffer all = memory.grow(6L * page);
            check(all.capacity() == 8 * page && all.getLong(8) == 0x68656c6c6fL, "the bytes moved");
            all.putLong(16, 7);
            check(first.getLong(16) == 7, "the earlier view has other memory");
            check(all.getLong(7 * page) == 0 && memory.committed() == 8L * page, "committed");
            try {
                memory.grow(1);
                throw new AssertionError("the limit did not refuse");
            } catch (Refused refused) {
                System.out.println(refused.getMessage());
            }
            check(all.getLong(8) == 0x68656c6c6fL && memory.committed() == 8L * page, "after the refusal");
        }
        for (int round = 0; round < 20; round++) {
            try (GrowInPlace memory = new GrowInPlace(1024L * page)) {
                ByteBuffer bytes = memory.onTouch(1024L * page);
                check(memory.committed() == 0, "committed before the touch");
                check(touch(bytes, page) == 1023L * 1024 / 2 * page, "sum");
                check(memory.committed() == 1024L * page, "committed by the touch");
            }
        }
        System.out.println("grown in place");
    }
}
