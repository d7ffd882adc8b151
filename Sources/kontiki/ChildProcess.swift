import Foundation
import Synchronization

/// A process of this very program, started by it. When this process goes, the child sees its standard input end.
final class ChildProcess: Sendable {
    /// How a process ended.
    enum Ending: Sendable, CustomStringConvertible {
        case exited(Int32)
        case signalled(Int32)

        var description: String {
            switch self {
            case .exited(let code): "exit code \(code)"
            case .signalled(let number): "signal \(number)"
            }
        }

        /// Wrong usage, damaged data and missing configuration do not mend themselves.
        var isWorthRestarting: Bool {
            switch self {
            case .exited(let code):
                ![ExitStatus.usage.rawValue, ExitStatus.data.rawValue, ExitStatus.configuration.rawValue].contains(code)
            case .signalled: true
            }
        }
    }

    private struct State {
        /// Set when the process is gone: its number may be another's from then on.
        var ending: Ending?
        /// All that it wrote was passed on before.
        var isReported = false
        var waiters: [CheckedContinuation<Ending, Never>] = []
    }

    /// Children are started one after the other. Foundation hears of a child's end by a socket that closes with it; one that is started at
    /// the same moment inherits that socket, and the end would not be heard of before both are gone.
    private static let starting = Mutex(())

    private let process: Process
    /// The child's standard input, open as long as this process lives.
    private let input = Pipe()
    private let state = Mutex(State())
    /// A pipe that ends when the child has ended, for the thread that reads the child's output.
    private let life: (reading: Int32, writing: Int32)

    /// - Parameters:
    ///   - onLine: called with each line the child writes, on a thread of its own.
    ///   - onEnd: called once, behind the last line that the child wrote.
    init(
        arguments: [String],
        onLine: @escaping @Sendable (String) -> Void,
        onEnd: @escaping @Sendable (Ending) -> Void
    ) throws {
        let process = Process()
        process.executableURL = URL(
            fileURLWithPath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        )
        process.arguments = arguments
        // What the environment says is meant for this process; the child is told everything on its command line.
        process.environment = ProcessInfo.processInfo.environment.filter {
            !$0.key.hasPrefix("KONTIKI_") && $0.key != "NOTIFY_SOCKET"
        }
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        process.standardError = output
        self.process = process
        life = try Self.starting.withLock { _ in try Self.pipeOfOurs() }
        // Not `waitUntilExit()`: it spins in a run loop for as long as the child lives.
        process.terminationHandler = { [self] process in gone(process) }
        do {
            try Self.starting.withLock { _ in try process.run() }
        } catch {
            close(life.reading)
            close(life.writing)
            throw error
        }
        Thread.detachNewThread { [self] in forward(output.fileHandleForReading, onLine, onEnd) }
    }

    /// A pipe that no child has, or it would end with that child.
    private static func pipeOfOurs() throws -> (reading: Int32, writing: Int32) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else {
            throw Failure(.io, "no pipe can be made: \(String(cString: strerror(errno)))")
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }

    private func gone(_ process: Process) {
        let ending: Ending =
            process.terminationReason == .exit
            ? .exited(process.terminationStatus) : .signalled(process.terminationStatus)
        state.withLock { $0.ending = ending }
        close(life.writing)
    }

    private func report(_ onEnd: (Ending) -> Void) {
        let (ending, waiters) = state.withLock { state in
            state.isReported = true
            defer { state.waiters = [] }
            return (state.ending, state.waiters)
        }
        guard let ending else { preconditionFailure("a process is reported that has not ended") }
        onEnd(ending)
        for waiter in waiters { waiter.resume(returning: ending) }
    }

    var processID: pid_t { process.processIdentifier }

    var isRunning: Bool { state.withLock { $0.ending == nil } }

    /// Asks it to stop in good order.
    func terminate() { if isRunning { Foundation.kill(processID, SIGTERM) } }

    func kill() { if isRunning { Foundation.kill(processID, SIGKILL) } }

    /// Waits until it has ended, and all that it wrote was passed on.
    func waitUntilEnd() async -> Ending {
        await withCheckedContinuation { continuation in
            let ending = state.withLock { state in
                if !state.isReported { state.waiters.append(continuation) }
                return state.isReported ? state.ending : nil
            }
            if let ending { continuation.resume(returning: ending) }
        }
    }

    /// Passes on what the child writes, then its end, then what others write that the child left behind with its output.
    private func forward(_ output: FileHandle, _ onLine: (String) -> Void, _ onEnd: (Ending) -> Void) {
        var lines = Lines()
        var isOpen = true
        while true {
            var polled = [
                pollfd(fd: isOpen ? output.fileDescriptor : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: life.reading, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&polled, nfds_t(polled.count), -1) > 0 else { continue }
            if polled[1].revents != 0 { break }
            isOpen = lines.read(output, upTo: Int.max, onLine) > 0
        }
        close(life.reading)
        // All that the child wrote is in the pipe by now. The pipe's end may be far: whoever the child started has it, too.
        var left: Int32 = 0
        if isOpen, ioctl(output.fileDescriptor, UInt(FIONREAD), &left) == 0 {
            while left > 0 {
                let count = lines.read(output, upTo: Int(left), onLine)
                guard count > 0 else { break }
                left -= Int32(count)
            }
        }
        lines.finish(onLine)
        report(onEnd)
        while isOpen { isOpen = lines.read(output, upTo: Int.max, onLine) > 0 }
        lines.finish(onLine)
    }

    /// Cuts a stream of bytes into lines.
    private struct Lines {
        private var pending: [UInt8] = []

        /// Reads once; answers how many bytes there were, zero at the end.
        mutating func read(_ handle: FileHandle, upTo bound: Int, _ onLine: (String) -> Void) -> Int {
            var buffer = [UInt8](repeating: 0, count: min(bound, 1 << 16))
            var count: Int
            repeat {
                count = Foundation.read(handle.fileDescriptor, &buffer, buffer.count)
            } while count < 0 && errno == EINTR
            guard count > 0 else { return 0 }
            pending += buffer[..<count]
            while let end = pending.firstIndex(of: 0x0A) {
                onLine(String(decoding: pending[..<end], as: UTF8.self))
                pending.removeFirst(end + 1)
            }
            return count
        }

        /// The last line may lack its end.
        mutating func finish(_ onLine: (String) -> Void) {
            if !pending.isEmpty { onLine(String(decoding: pending, as: UTF8.self)) }
            pending = []
        }
    }
}
