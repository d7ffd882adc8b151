import Foundation

/// Says on standard error that the process crashed, and what to do, before the system ends it.
///
/// LMDB reads files through memory, so that a page that the disk cannot give any more, or a damaged one that nobody has looked at
/// yet, ends the process with a signal and not with an error.
enum CrashMessage {
    // Sound: it is set before the handler is installed, and only read from then on.
    nonisolated(unsafe) private static var message = UnsafeMutableBufferPointer<UInt8>(start: nil, count: 0)

    /// From now on, a crash says so. `directory` is the data directory.
    static func install(directory: String) {
        let text = Array(
            """

            kontiki: the process crashed: a bug, or a damaged file in \(directory). Nothing that was acknowledged is lost by the crash. \
            A start examines the files before it uses them; to examine all of them:  kontiki check \(directory)

            """.utf8
        )
        message = .allocate(capacity: text.count)
        _ = message.initialize(from: text)
        var action = sigaction()
        // The default action is in place again when it runs, so that the same signal then ends the process.
        action.__sigaction_handler.sa_handler = { signal in
            _ = Foundation.write(2, CrashMessage.message.baseAddress, CrashMessage.message.count)
            raise(signal)
        }
        action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND)) | Int32(SA_NODEFER)
        for signal in [SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGTRAP, SIGFPE] { sigaction(signal, &action, nil) }
    }
}
