/// The formats of recorded histories, and how one is checked.
package enum HistoryFormat: String, CaseIterable, Sendable {
    /// Logs of Jepsen against a compare-and-set register of etcd; see `JepsenLog`.
    case jepsenEtcd = "jepsen-etcd"
    /// Histories of put, append and get that porcupine keeps; see `PorcupineLog`.
    case porcupineKeyValue = "porcupine-kv"
    /// Kontiki's own; see ``KontikiHistory``.
    case kontiki

    /// Reads a history and checks it, key by key.
    ///
    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - limit: as of ``History/check(limit:)``, for each key.
    /// - Throws: `MalformedHistory` with the number of the line.
    package func check(_ bytes: [UInt8], limit: Int = 50_000_000) throws(MalformedHistory) -> HistoryReport {
        var report = HistoryReport()
        switch self {
        case .jepsenEtcd:
            let history = try JepsenLog.parse(bytes)
            report.add(history, key: nil, history.check(limit: limit))
        case .porcupineKeyValue:
            for (key, history) in Self.sorted(try PorcupineLog.parse(bytes)) {
                report.add(history, key: key, history.check(limit: limit))
            }
        case .kontiki:
            let histories = try KontikiHistory(bytes)
            for (key, history) in Self.sorted(histories.keys) {
                report.add(history, key: key, history.check(limit: limit))
            }
            for (key, history) in Self.sorted(histories.appendedKeys) {
                report.add(history, key: key, history.check(limit: limit))
            }
        }
        return report
    }

    private static func sorted<Value>(_ histories: [[UInt8]: Value]) -> [([UInt8], Value)] {
        histories.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { ($0.key, $0.value) }
    }
}

/// What was found out about a recorded history.
package struct HistoryReport: Hashable, Sendable {
    /// Of one key that is not linearizable.
    package struct Offence: Hashable, Sendable {
        /// nil where the history is of one object without a name.
        package var key: String?
        /// How many operations the key's history has.
        package var operations: Int
        /// The shortest part found that is not linearizable, as lines.
        package var lines: [String]
    }

    /// How many operations were checked; those that certainly were not executed do not count.
    package var operations = 0
    /// How many objects there are.
    package var keys = 0
    /// The keys that are not linearizable, in their order.
    package var offences: [Offence] = []
    /// Keys whose check met the bound on steps.
    package var undecidedKeys: [String] = []

    /// Over all keys.
    package var verdict: HistoryVerdict {
        if !offences.isEmpty { return .notLinearizable }
        return undecidedKeys.isEmpty ? .linearizable : .undecided
    }

    fileprivate mutating func add<M: Model>(_ history: History<M>, key: [UInt8]?, _ verdict: Verdict) {
        operations += history.operations.count
        keys += 1
        let name = key.map { String(decoding: $0, as: UTF8.self) }
        switch verdict {
        case .linearizable: break
        case .undecided: undecidedKeys.append(name ?? "")
        case .notLinearizable:
            let lines = history.counterexample()?.lines(unit: "line") ?? []
            offences.append(Offence(key: name, operations: history.operations.count, lines: lines))
        }
    }
}

/// The verdict over all keys of a history: one that is not linearizable makes the whole not so, and of the others all
/// must be decided.
package enum HistoryVerdict: Hashable, Sendable {
    case linearizable, notLinearizable, undecided
}
