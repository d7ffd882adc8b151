/// Makes a failing run smaller while it goes on failing in the same way: a shorter one, with fewer faults, on a better network.
///
/// - Parameter limit: how many runs to spend at most.
/// - Returns: the options of the smallest run found, and its report. The same as `report` when nothing could be left out.
package func shrink(_ report: SimulationReport, limit: Int = 300) -> SimulationReport {
    guard let failure = report.failure else { return report }
    var shrinker = Shrinker(best: report, kind: Shrinker.kind(of: failure), left: limit)
    shrinker.run()
    return shrinker.best
}

private struct Shrinker {
    var best: SimulationReport
    let kind: String
    var left: Int

    /// What a failure is about, without the numbers in it: two runs that fail alike break the same rule.
    static func kind(of failure: Broken) -> String {
        let words = failure.description.prefix { $0 != "\n" }.split(separator: " ")
        return words.filter { word in !word.contains { $0.isNumber } }.joined(separator: " ")
    }

    mutating func run() {
        cutTime()
        attempt { $0.loss = 0 }
        attempt { $0.duplication = 0 }
        removeFaults()
        cutTime()
    }

    /// What comes after the failure is not needed. One that shows only after the healing needs all the time there is.
    private mutating func cutTime() {
        let end = best.simulatedSeconds
        guard end < best.options.seconds else { return }
        attempt { $0.seconds = (end * 1000).rounded(.up) / 1000 }
    }

    /// Leaves out halves, quarters, … of the faults, down to single ones (Zeller's delta debugging).
    private mutating func removeFaults() {
        var kept = best.options.keptFaults ?? Array(0..<best.plannedFaults)
        var size = max(kept.count / 2, 1)
        while left > 0, !kept.isEmpty {
            var start = 0
            var hasRemoved = false
            while start < kept.count, left > 0 {
                var fewer = kept
                fewer.removeSubrange(start..<min(start + size, kept.count))
                if attempt({ $0.keptFaults = fewer }) {
                    kept = fewer
                    hasRemoved = true
                } else {
                    start += size
                }
            }
            if size > 1 {
                size /= 2
            } else if !hasRemoved {
                return
            }
        }
    }

    @discardableResult
    private mutating func attempt(_ change: (inout SimulationOptions) -> Void) -> Bool {
        guard left > 0 else { return false }
        left -= 1
        var options = best.options
        options.traces = false
        change(&options)
        let report = simulate(options)
        guard let failure = report.failure, Self.kind(of: failure) == kind else { return false }
        best = report
        return true
    }
}
