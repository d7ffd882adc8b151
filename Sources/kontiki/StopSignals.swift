import Dispatch
import Foundation

/// What asks the program to stop: SIGTERM, SIGINT and, where wanted, the end of standard input.
final class StopSignals: Sendable {
    // Sound: nothing touches the sources after they were made; they are only kept alive.
    nonisolated(unsafe) private let sources: [any DispatchSourceSignal]

    /// - Parameters:
    ///   - watchingStandardInput: stop, too, when standard input ends: the process that started this one is gone.
    ///   - handler: called for each request with what it was, from any thread.
    init(watchingStandardInput: Bool, handler: @escaping @Sendable (String) -> Void) {
        sources = [(SIGTERM, "SIGTERM"), (SIGINT, "SIGINT")].map { number, name in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { handler(name) }
            source.resume()
            return source
        }
        guard watchingStandardInput else { return }
        Thread.detachNewThread {
            var byte: UInt8 = 0
            while true {
                let count = read(STDIN_FILENO, &byte, 1)
                if count == 0 || (count < 0 && errno != EINTR) { break }
            }
            handler("the end of standard input")
        }
    }
}
