import Foundation
import Glibc

/// A program that is run to its end, many hundred times in a row: Foundation's `Process` keeps descriptors for each.
enum SpawnedProcess {
    /// Runs a program with its output and its errors in the file `output`; one that takes longer than `seconds` is killed.
    static func run(
        _ program: String,
        _ arguments: [String],
        environment: [String: String],
        output: String,
        seconds: Double
    ) async throws -> Ending {
        try await withCheckedThrowingContinuation { continuation in
            // Waiting blocks a thread, which must not be one of the few that tasks run on.
            DispatchQueue.global().async {
                continuation.resume(
                    with: Result { try spawn(program, arguments, environment, output).wait(seconds: seconds) }
                )
            }
        }
    }

    private struct Child {
        let identifier: pid_t

        func wait(seconds: Double) throws -> Ending {
            let deadline = ContinuousClock.now + .seconds(seconds)
            var status: Int32 = 0
            while true {
                switch waitpid(identifier, &status, WNOHANG) {
                case 0:
                    if ContinuousClock.now > deadline { kill(identifier, SIGKILL) }
                    usleep(1_000)
                case identifier:
                    let signal = status & 0x7f
                    return signal == 0 ? .exited(status >> 8 & 0xff) : .signalled(signal)
                default: throw SetupError("waitpid: \(String(cString: strerror(errno)))")
                }
            }
        }
    }

    private static func spawn(
        _ program: String,
        _ arguments: [String],
        _ environment: [String: String],
        _ output: String
    ) throws -> Child {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
        var words = ([program] + arguments).map { strdup($0) } + [nil]
        var settings = environment.map { strdup("\($0)=\($1)") } + [nil]
        defer { for text in words + settings { free(text) } }
        var identifier: pid_t = 0
        let result = posix_spawn(&identifier, program, &actions, nil, &words, &settings)
        guard result == 0 else { throw SetupError("\(program): \(String(cString: strerror(result)))") }
        return Child(identifier: identifier)
    }
}
