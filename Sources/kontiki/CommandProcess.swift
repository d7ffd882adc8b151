import Foundation
import Synchronization

/// A command of the user's, run with this program's terminal.
///
/// Not Foundation's `Process`: that puts the child into a process group of its own, where it may neither read from the terminal nor
/// hear its Ctrl-C.
final class CommandProcess: Sendable {
    private struct State {
        var status: Int32?
        var waiters: [CheckedContinuation<Int32, Never>] = []
    }

    let processID: pid_t
    private let state = Mutex(State())

    /// - Parameters:
    ///   - arguments: the program, looked for in PATH, and what it is called with.
    ///   - environment: added to this program's own.
    ///   - input: what it reads from standard input; this program's own when nil.
    init(_ arguments: [String], environment: [String: String], input: [UInt8]? = nil) throws {
        var merged = ProcessInfo.processInfo.environment
        merged.merge(environment) { $1 }
        var pipeEnds: [Int32] = [-1, -1]
        if input != nil {
            guard pipe(&pipeEnds) == 0 else {
                throw Failure(.io, "no pipe can be made: \(String(cString: strerror(errno)))")
            }
            // The child must not hold the end that tells it of the input's end.
            for end in pipeEnds { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        }
        processID = try Self.spawn(arguments, merged.map { "\($0)=\($1)" }, input: input == nil ? nil : pipeEnds[0])
        if let input {
            close(pipeEnds[0])
            let writeEnd = pipeEnds[1]
            Thread.detachNewThread {
                // A child that does not read its input is none of our business.
                Output.write(input, to: writeEnd)
                close(writeEnd)
            }
        }
        Thread.detachNewThread { [self] in
            var status: Int32 = 0
            while waitpid(processID, &status, 0) < 0 && errno == EINTR {}
            // As a shell says it: the exit code, or 128 and the number of the signal.
            ended(status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + status & 0x7F)
        }
    }

    private static func spawn(_ arguments: [String], _ environment: [String], input: Int32?) throws -> pid_t {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // What this program ignores or handles by other means, the child does not.
        var defaults = sigset_t()
        sigemptyset(&defaults)
        for number in [SIGPIPE, SIGINT, SIGTERM] { sigaddset(&defaults, number) }
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input { posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO) }
        var argv = arguments.map { strdup($0) } + [nil]
        var envp = environment.map { strdup($0) } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var processID: pid_t = 0
        let code = posix_spawnp(&processID, arguments[0], &actions, &attributes, &argv, &envp)
        guard code == 0 else {
            throw Failure(.noInput, "\(arguments[0]) cannot be run: \(String(cString: strerror(code)))")
        }
        return processID
    }

    private func ended(_ status: Int32) {
        let waiters = state.withLock { state in
            state.status = status
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume(returning: status) }
    }

    /// Sends a signal; nothing once it has ended.
    func send(_ signal: Int32) { state.withLock { if $0.status == nil { kill(processID, signal) } } }

    /// Its exit code, or 128 and the number of the signal that ended it.
    func waitUntilEnd() async -> Int32 {
        await withCheckedContinuation { continuation in
            let status = state.withLock { state in
                if state.status == nil { state.waiters.append(continuation) }
                return state.status
            }
            if let status { continuation.resume(returning: status) }
        }
    }
}
