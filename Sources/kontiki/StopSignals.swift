import Dispatch
import Foundation

/// What asks the program to stop: SIGTERM, SIGINT and, where wanted, the end of standard input.
final class StopSignals: Sendable {
    // Sound: nothing touches the sources after they were made; they are only kept alive.
    nonisolated(unsafe) private let sources: [any DispatchSourceSignal]
    private let stream: AsyncStream<String>

    /// - Parameter watchingStandardInput: stop, too, when standard input ends: the process that started this one is gone.
    init(watchingStandardInput: Bool) {
        let (stream, continuation) = AsyncStream.makeStream(of: String.self)
        self.stream = stream
        sources = [(SIGTERM, "SIGTERM"), (SIGINT, "SIGINT")].map { number, name in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { continuation.yield(name) }
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
            continuation.yield("the end of standard input")
        }
    }

    /// Waits for the next request to stop, and names it. Each is given once, to one waiter.
    func next() async -> String {
        for await name in stream { return name }
        return "the end of the program"
    }
}
