import Foundation
import KontikiClient
import Synchronization
import Testing

/// The program under test.
enum Binary {
    /// `KONTIKI_BINARY`, else the `kontiki` that lies beside the tests.
    static func path() throws -> String {
        let named = ProcessInfo.processInfo.environment["KONTIKI_BINARY"]
        let beside = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent("kontiki").path
        let path = named ?? beside
        return try #require(
            FileManager.default.isExecutableFile(atPath: path) ? path : nil,
            "\(path) is not there: run Deploy/test.sh, or set KONTIKI_BINARY to a built kontiki"
        )
    }
}

/// How a process ended.
enum Ending: Hashable, Sendable {
    case exited(Int32)
    case signalled(Int32)
}

/// A process started by a test, its output kept.
final class ChildProcess: Sendable {
    private struct State {
        var ending: Ending?
        var waiters: [CheckedContinuation<Ending, Never>] = []
    }

    let processID: pid_t
    private let state: Mutex<State>
    /// Keeps the child's standard input open, which tells the child when this process goes.
    private let process: Process
    private let outputPath: String

    /// - Parameters:
    ///   - output: a file that standard output and standard error are appended to.
    ///   - input: fed to standard input, which is then closed; nil keeps it open as long as this process lives.
    init(
        _ executable: String,
        _ arguments: [String],
        environment: [String: String] = [:],
        output: String,
        input: String? = nil
    )
        throws
    {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = ["PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"].merging(
            environment
        ) { $1 }
        if !FileManager.default.fileExists(atPath: output) { try Data().write(to: URL(fileURLWithPath: output)) }
        let log = try FileHandle(forWritingTo: URL(fileURLWithPath: output))
        try log.seekToEnd()
        process.standardOutput = log
        process.standardError = log
        let fed = try input.map { try FileHandle(forReadingFrom: URL(fileURLWithPath: $0)) }
        process.standardInput = fed ?? Pipe()
        self.process = process
        outputPath = output
        state = Mutex(State())
        let box = EndingBox()
        process.terminationHandler = { process in
            box.end(
                process.terminationReason == .exit
                    ? .exited(process.terminationStatus) : .signalled(process.terminationStatus)
            )
        }
        try process.runAlone()
        // The child has its own. Foundation keeps these for long, and where many hundred descriptors are open its `run` reads beyond a buffer.
        try log.close()
        try fed?.close()
        processID = process.processIdentifier
        box.connect { [self] ending in
            let waiters = state.withLock { state in
                state.ending = ending
                defer { state.waiters = [] }
                return state.waiters
            }
            for waiter in waiters { waiter.resume(returning: ending) }
        }
    }

    var isRunning: Bool { state.withLock { $0.ending == nil } }

    func signal(_ number: Int32) { if isRunning { kill(processID, number) } }

    /// Waits for the end of the process.
    @discardableResult
    func ending() async -> Ending {
        await withCheckedContinuation { continuation in
            let ending = state.withLock { state in
                if state.ending == nil { state.waiters.append(continuation) }
                return state.ending
            }
            if let ending { continuation.resume(returning: ending) }
        }
    }

    /// What the process wrote, as far as it has.
    var output: String { (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? "" }

    /// Runs a program to its end and answers how it ended and what it wrote to both its outputs.
    static func run(
        _ executable: String,
        _ arguments: [String],
        environment: [String: String] = [:],
        input: String? = nil
    ) async throws -> (ending: Ending, output: String) {
        try await withTemporaryDirectory { directory in
            let child = try ChildProcess(
                executable,
                arguments,
                environment: environment,
                output: directory + "/output",
                input: input ?? "/dev/null"
            )
            let ending = await child.ending()
            return (ending, child.output)
        }
    }
}

/// Carries the end of a process to whoever asks for it first or later.
private final class EndingBox: Sendable {
    private struct State {
        var ending: Ending?
        var handler: (@Sendable (Ending) -> Void)?
    }

    private let state = Mutex(State())

    func end(_ ending: Ending) {
        let handler = state.withLock { state in
            state.ending = ending
            // It holds the process, with its descriptors.
            defer { state.handler = nil }
            return state.handler
        }
        handler?(ending)
    }

    func connect(_ handler: @escaping @Sendable (Ending) -> Void) {
        let ending = state.withLock { state in
            if state.ending == nil { state.handler = handler }
            return state.ending
        }
        if let ending { handler(ending) }
    }
}

/// A node of a test's cluster: a real process with its own data directory, that can be killed and started again.
final class NodeProcess: Sendable {
    let name: String
    let httpPort: Int
    /// Where the others reach it.
    let peerAddress: String
    /// Where it listens for them; differs from `peerAddress` behind a proxy.
    let listenAddress: String
    let directory: String
    let logPath: String
    /// Asks this node only, once.
    let client: KontikiClient
    /// The switches of its disk, where it has some.
    let disk: DiskSwitches?
    private let options: [String]
    /// What every start finds in its environment.
    private let lasting = Mutex<[String: String]>([:])
    private let child = Mutex<ChildProcess?>(nil)

    init(
        name: String,
        peerAddress: String,
        listenAddress: String,
        directory: String,
        options: [String],
        isDiskSwitched: Bool = false
    ) throws {
        disk = isDiskSwitched ? DiskSwitches(directory: directory + "/" + name) : nil
        self.name = name
        httpPort = try Ports.next()
        self.peerAddress = peerAddress
        self.listenAddress = listenAddress
        self.directory = directory + "/" + name
        logPath = directory + "/" + name + ".log"
        self.options = options
        var single = KontikiClient.Options()
        single.totalTimeout = .zero
        client = try KontikiClient(endpoints: ["127.0.0.1:\(httpPort)"], options: single)
    }

    var endpoint: String { "127.0.0.1:\(httpPort)" }

    var isRunning: Bool { child.withLock { $0?.isRunning ?? false } }

    /// The number of the process; nil when none was started or it was ended.
    var processID: pid_t? { child.withLock { $0?.processID } }

    /// The command line of `serve`, without how to begin.
    var arguments: [String] {
        [
            "serve", "--id", name, "--addr", peerAddress, "--listen", listenAddress, "--http", endpoint, "--data",
            directory,
        ] + options
    }

    /// Starts it.
    ///
    /// - Parameters:
    ///   - beginning: `--bootstrap`, or `--join` and addresses; nothing for a node that comes back.
    ///   - environment: beside the switches of its disk.
    func start(_ beginning: String..., environment: [String: String] = [:]) throws {
        let process = try ChildProcess(
            Binary.path(),
            arguments + ["--stop-with-stdin"] + beginning,
            environment: (disk?.environment ?? [:]).merging(lasting.withLock { $0 }) { $1 }.merging(environment) { $1 },
            output: logPath
        )
        child.withLock { $0 = process }
    }

    /// What later starts find in their environment.
    func setEnvironment(_ variables: [String: String]) { lasting.withLock { $0 = variables } }

    /// kill -9; returns when the process is gone.
    func crash() async { await end(SIGKILL) }

    /// SIGSTOP: the process stands still with its connections open, as a machine does that is swapping or suspended.
    func pause() { child.withLock { $0 }?.signal(SIGSTOP) }

    /// SIGCONT: it goes on, and learns from the clock that it was away, or not.
    func resume() { child.withLock { $0 }?.signal(SIGCONT) }

    /// SIGTERM; returns when the process has stopped.
    @discardableResult
    func stop() async -> Ending? { await end(SIGTERM) }

    /// Any signal; returns when the process is gone.
    func end(by signal: Int32) async -> Ending? { await end(signal) }

    @discardableResult
    private func end(_ signal: Int32) async -> Ending? {
        guard let process = child.withLock({ $0 }) else { return nil }
        process.signal(signal)
        let ending = await process.ending()
        child.withLock { $0 = nil }
        return ending
    }

    /// Waits for the process to end by itself.
    func ending() async -> Ending? { await child.withLock { $0 }?.ending() }

    /// Whether its `/readyz` says yes, which is all that an operator asks.
    func isReady() async -> Bool { (try? await client.readiness())?.isEmpty ?? false }

    /// Whether it answers a strong read.
    func serves() async -> Bool {
        do {
            _ = try await client.get("ready?")
            return true
        } catch {
            return false
        }
    }

    func status() async -> NodeStatus? { try? await client.status() }

    var log: String { (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? "" }
}
