import Simulation
import Testing

@testable import Raft

/// The log's runs and windows against an array that keeps everything.
@Suite struct LogTests {
    init() { switchOnPlantedBug() }

    private struct Model {
        var base = LogBase()
        var entries: [EntryInfo] = []

        var lastIndex: LogIndex { base.position.index + UInt64(entries.count) }
        var lastTerm: Term { entries.last?.term ?? base.position.term }

        func term(at index: LogIndex) -> Term? {
            if index == base.position.index { return base.position.term }
            return entries.first { $0.index == index }?.term
        }

        func configuration(at index: LogIndex) -> Configuration {
            entries.last { $0.index <= index && $0.configuration != nil }?.configuration ?? base.configuration
        }

        func lastPosition(atOrBelow index: LogIndex, term: Term) -> LogPosition? {
            if let entry = entries.last(where: { $0.index <= index && $0.term <= term }) {
                return LogPosition(index: entry.index, term: entry.term)
            }
            return base.position.index <= index && base.position.term <= term ? base.position : nil
        }
    }

    private static func compare(_ log: Log, _ model: Model, _ random: inout SeededRandom) throws {
        try demand(log.lastIndex == model.lastIndex && log.last.term == model.lastTerm, "the end differs")
        try demand(log.logBase == model.base && log.firstIndex == model.base.position.index + 1, "the base differs")
        try demand(log.configuration == model.configuration(at: .max), "the configuration differs")
        let base = model.base.position.index
        for index in (base - min(base, 2))...(model.lastIndex + 2) {
            try demand(log.term(at: index) == model.term(at: index), "term(at: \(index)) differs")
            if index >= base {
                let configuration = log.configuration(at: index)
                try demand(configuration == model.configuration(at: index), "configuration(at: \(index)) differs")
            }
            let term = random.next() % 12
            let found = log.lastPosition(atOrBelow: index, term: term)
            try demand(
                found == model.lastPosition(atOrBelow: index, term: term),
                "lastPosition(atOrBelow: \(index), term: \(term)) is \(String(describing: found))"
            )
            for voter in 1...4 {
                let candidates =
                    [model.configuration(at: max(index, base))]
                    + model.entries.filter { $0.index > index }.compactMap(\.configuration)
                try demand(
                    log.hasVoter(server(voter), inForceSince: index)
                        == candidates.contains { $0.isVoter(server(voter)) },
                    "hasVoter(\(voter), inForceSince: \(index)) differs"
                )
            }
        }
        guard !model.entries.isEmpty else { return }
        let first = model.entries[Int(random.next() % UInt64(model.entries.count))].index
        let (bytes, count) = (Int(random.next() % 300), 1 + Int(random.next() % 5))
        var (last, sum) = (first - 1, 0)
        for entry in model.entries where entry.index >= first && entry.index < first + UInt64(count) {
            if entry.index > first, sum + entry.size > bytes { break }
            (last, sum) = (entry.index, sum + entry.size)
        }
        try demand(log.lastIndex(from: first, bytes: bytes, count: count) == (last, sum), "the piece differs")
        let range = (first - 1)...(first + random.next() % 9)
        let expected = model.entries.filter { range.contains($0.index) }.reduce(0) { $0 + $1.size }
        try demand(log.bytes(in: range) == expected, "bytes(in: \(range)) differs")
    }

    @Test("The log agrees with a plain array over any series of appends, truncations and trims", arguments: 1...12)
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var model = Model()
        if seed % 3 == 0 { model.base = LogBase(position: position(7, 2), configuration: configuration([1, 2])) }
        var log = Log(base: model.base, entries: [])
        for _ in 0..<120 {
            switch random.next() % 8 {
            case 0 where model.lastIndex > model.base.position.index:
                let count = UInt64(model.entries.count)
                let from = model.base.position.index + 1 + (random.next() % 3 == 0 ? random.next() % count : count - 1)
                model.entries.removeAll { $0.index >= from }
                log.truncate(from: from)
            case 1 where random.next() % 3 == 0:
                let index = model.base.position.index + random.next() % UInt64(model.entries.count + 1)
                let term = model.term(at: index)!
                model.base = LogBase(position: position(index, term), configuration: model.configuration(at: index))
                model.entries.removeAll { $0.index <= index }
                log.trim(upTo: index)
            default:
                let term = min(10, model.lastTerm + (random.next() % 4 == 0 ? random.next() % 3 : 0))
                let voters = (1...4).filter { _ in random.next() % 2 == 0 }
                let entry = EntryInfo(
                    index: model.lastIndex + 1,
                    term: max(term, model.lastTerm),
                    size: 32 + Int(random.next() % 100),
                    configuration: random.next() % 6 == 0 ? configuration(voters) : nil
                )
                model.entries.append(entry)
                log.append(entry)
            }
            do { try Self.compare(log, model, &random) } catch { throw Broken("seed \(seed): \(error)") }
        }
        let rebuilt = Log(base: model.base, entries: model.entries)
        try Self.compare(rebuilt, model, &random)
    }
}
