import Foundation

/// Tells on standard error how a long command gets on: a line that is rewritten on a terminal, now and then a line elsewhere.
struct Progress {
    private let verb: String
    private let isQuiet: Bool
    private let total: Int?
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private let clock = ContinuousClock()
    private let start: ContinuousClock.Instant
    private var last: ContinuousClock.Instant
    /// There is a line to be erased.
    private var isShown = false

    /// - Parameter total: bytes to do, where it is known.
    init(verb: String, isQuiet: Bool, total: Int? = nil) {
        self.verb = verb
        self.isQuiet = isQuiet
        self.total = total
        start = clock.now
        last = start
    }

    mutating func show(count: Int, bytes: Int = 0) {
        guard !isQuiet, clock.now - last >= (isTerminal ? .milliseconds(200) : .seconds(5)) else { return }
        last = clock.now
        var text = "\(count) \(verb), \(rate(count))/s"
        if let total, total > 0 { text += ", \(min(100, bytes * 100 / total)) % of the file read" }
        isShown = isTerminal
        if isTerminal { Output.write(Array("\r\u{1B}[K\(text)".utf8), to: STDERR_FILENO) } else { say(text) }
    }

    func finish(count: Int) {
        if isShown { Output.write(Array("\r\u{1B}[K".utf8), to: STDERR_FILENO) }
        let (seconds, attoseconds) = (clock.now - start).components
        let tenths = seconds * 10 + attoseconds / 100_000_000_000_000_000
        say("\(count) \(verb) in \(tenths / 10).\(tenths % 10) s (\(rate(count))/s)")
    }

    private func rate(_ count: Int) -> Int {
        let (seconds, attoseconds) = (clock.now - start).components
        return Int(Double(count) / max(Double(seconds) + Double(attoseconds) / 1e18, 0.001))
    }
}
