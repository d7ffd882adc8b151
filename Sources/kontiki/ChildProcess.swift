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
        var ending: Ending?
        var waiters: [CheckedContinuation<Ending, Never>] = []
    }

    private let process: Process
    /// The child's standard input, open as long as this process lives.
    private let input = Pipe()
    private let state = Mutex(State())

    /// - Parameters:
    ///   - onLine: called with each line the child writes, on a thread of its own.
    ///   - onEnd: called once.
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
        // Not `waitUntilExit()`: it spins in a run loop for as long as the child lives.
        process.terminationHandler = { [self] process in ended(process, onEnd) }
        try process.run()
        Thread.detachNewThread { Self.forward(output.fileHandleForReading, onLine) }
    }

    private func ended(_ process: Process, _ onEnd: (Ending) -> Void) {
        let ending: Ending =
            process.terminationReason == .exit
            ? .exited(process.terminationStatus) : .signalled(process.terminationStatus)
        let waiters = state.withLock { state in
            state.ending = ending
            defer { state.waiters = [] }
            return state.waiters
        }
        onEnd(ending)
        for waiter in waiters { waiter.resume(returning: ending) }
    }

    var processID: pid_t { process.processIdentifier }

    var isRunning: Bool { state.withLock { $0.ending == nil } }

    /// Asks it to stop in good order.
    func terminate() { if isRunning { Foundation.kill(processID, SIGTERM) } }

    func kill() { if isRunning { Foundation.kill(processID, SIGKILL) } }

    func waitUntilEnd() async -> Ending {
        await withCheckedContinuation { continuation in
            let ending = state.withLock { state in
                if state.ending == nil { state.waiters.append(continuation) }
                return state.ending
            }
            if let ending { continuation.resume(returning: ending) }
        }
    }

    private static func forward(_ handle: FileHandle, _ onLine: (String) -> Void) {
        var pending: [UInt8] = []
        while true {
            let chunk = handle.availableData
            pending += chunk
            while let end = pending.firstIndex(of: 0x0A) {
                onLine(String(decoding: pending[..<end], as: UTF8.self))
                pending.removeFirst(end + 1)
            }
            guard chunk.isEmpty else { continue }
            if !pending.isEmpty { onLine(String(decoding: pending, as: UTF8.self)) }
            return
        }
    }
}
