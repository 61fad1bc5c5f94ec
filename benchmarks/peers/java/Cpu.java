import java.lang.management.ManagementFactory;

/** Prints progress against the CPU clock of this process: `mark PROCESSED CPU_SECONDS`. */
final class Cpu {
    private static final com.sun.management.OperatingSystemMXBean OS =
        (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private Cpu() {}

    static double seconds() {
        return OS.getProcessCpuTime() / 1e9;
    }

    static void mark(long processed) {
        System.out.println("mark " + processed + " " + seconds());
        System.out.flush();
    }
}
