import Foundation
import Glibc
import Synchronization

/// A terminal that a program writes to, as if somebody sat before it.
enum Terminal {
    /// Runs a program with its standard output and error on a terminal; answers how it ended, and every byte that the terminal got.
    static func run(
        _ executable: String,
        _ arguments: [String],
        environment: [String: String] = [:]
    ) async throws -> (ending: Ending, bytes: [UInt8]) {
        let controller = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard controller >= 0 else { throw failed("no terminal can be made") }
        defer { close(controller) }
        // What the C library's headers hide from Swift: unlockpt and ptsname.
        var (locked, number): (Int32, UInt32) = (0, 0)
        guard ioctl(controller, 0x4004_5431, &locked) == 0, ioctl(controller, 0x8004_5430, &number) == 0 else {
            throw failed("the terminal has no name")
        }
        let terminal = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard terminal >= 0 else { throw failed("the terminal cannot be opened") }
        // Bytes come out as they went in.
        var settings = termios()
        tcgetattr(terminal, &settings)
        cfmakeraw(&settings)
        tcsetattr(terminal, TCSANOW, &settings)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = ["PATH": "/usr/bin:/bin"].merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle(fileDescriptor: terminal, closeOnDealloc: false)
        process.standardError = FileHandle(fileDescriptor: terminal, closeOnDealloc: false)
        let bytes = Mutex<[UInt8]>([])
        let ending: Ending = try await withCheckedThrowingContinuation { continuation in
            process.terminationHandler = { process in
                // What it wrote lies in the terminal; nobody else has it open any more.
                close(terminal)
                let read = readAll(controller)
                bytes.withLock { $0 = read }
                let status = process.terminationStatus
                continuation.resume(
                    returning: process.terminationReason == .exit ? .exited(status) : .signalled(status)
                )
            }
            do { try process.runAlone() } catch { continuation.resume(throwing: error) }
        }
        return (ending, bytes.withLock { $0 })
    }

    private static func failed(_ what: String) -> SetupError {
        SetupError("\(what): \(String(cString: strerror(errno)))")
    }

    /// Up to the end, which a terminal tells as an error once nobody has its other side open.
    private static func readAll(_ descriptor: Int32) -> [UInt8] {
        var result: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return result }
            result += buffer[..<count]
        }
    }
}
