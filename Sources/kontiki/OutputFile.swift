import Foundation
import KontikiClient
import Synchronization

/// A file that gets its name when it is complete and durable, or standard output.
struct OutputFile: ~Copyable {
    private let descriptor: Int32
    private let name: String
    /// What the file is called until it is complete; nil for what is written to directly.
    private let temporary: String?

    /// - Parameter path: `-` is standard output.
    init(_ path: String) throws {
        name = path == "-" ? "standard output" : path
        guard path != "-" else {
            (descriptor, temporary) = (STDOUT_FILENO, nil)
            return
        }
        var status = stat()
        if stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            // A device or a pipe is not replaced by a file.
            (descriptor, temporary) = (open(path, O_WRONLY | O_CLOEXEC), nil)
        } else {
            // Nobody can know the name before, nor have put anything there: in a directory that others write to, a link
            // to a file of this user would be followed.
            let partial = "\(path).partial-\(String(UInt64.random(in: .min ... .max), radix: 36))"
            temporary = partial
            descriptor = open(partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        }
        guard descriptor >= 0 else { throw Self.failed(path) }
        if let temporary { UnfinishedFiles.add(temporary) }
    }

    deinit {
        if descriptor != STDOUT_FILENO { close(descriptor) }
        guard let temporary else { return }
        // Gone already when it was published.
        unlink(temporary)
        UnfinishedFiles.remove(temporary)
    }

    /// Whether it goes to somebody's eyes.
    var isTerminal: Bool { isatty(descriptor) == 1 }

    func write(_ bytes: [UInt8]) throws {
        guard Output.write(bytes, to: descriptor) else { throw Self.failed(name) }
    }

    func publish() throws {
        guard let temporary else { return }
        guard fsync(descriptor) == 0, rename(temporary, name) == 0 else { throw Self.failed(name) }
        let directory = open((name as NSString).deletingLastPathComponent.nonEmpty ?? ".", O_RDONLY | O_CLOEXEC)
        guard directory >= 0 else { return }
        defer { close(directory) }
        // Some file systems cannot, and need not.
        guard fsync(directory) == 0 || errno == EINVAL else { throw Self.failed(name) }
    }

    private static func failed(_ path: String) -> Failure {
        Failure(.io, "\(path) cannot be written: \(String(cString: strerror(errno)))")
    }
}

extension String {
    fileprivate var nonEmpty: String? { isEmpty ? nil : self }
}

/// Files that are removed when the command is stopped before it has finished them.
enum UnfinishedFiles {
    private static let paths = Mutex<Set<String>>([])
    private static let signals = Mutex<StopSignals?>(nil)

    static func add(_ path: String) {
        paths.withLock { _ = $0.insert(path) }
        signals.withLock { signals in
            if signals == nil {
                signals = StopSignals(watchingStandardInput: false) { signal in
                    for path in paths.withLock({ $0 }) { unlink(path) }
                    // As a shell says it of a program that the signal ended.
                    _exit(128 + (signal == "SIGINT" ? SIGINT : SIGTERM))
                }
            }
        }
    }

    static func remove(_ path: String) { paths.withLock { _ = $0.remove(path) } }
}
