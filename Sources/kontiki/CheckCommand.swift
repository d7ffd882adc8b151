import ArgumentParser
import DataDirectory
import Foundation
import KontikiClient

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Examine the data directory of a node that does not run.",
        discussion: """
            Reads everything and changes nothing: every page of the log's and the state's files and every record in them, every \
            snapshot to its end, and whether they fit together. One line a part says whether it is sound; then comes what can be done.

              kontiki check /var/lib/kontiki
              kontiki check --salvage saved.ndjson /var/lib/kontiki

            With --salvage, what can be read of the state is written to a file that kontiki import reads; entries of the log that were \
            not in the state's file yet, and items whose checksums are wrong, are not in it. Only for when nothing else is left.

            Exit codes: 0 sound; 1 damaged; 2 cannot be examined: no data there, a node uses it, or it cannot be read.
            """
    )

    @Flag(help: "One JSON object instead of text.") var json = false
    @Flag(name: .shortAndLong, help: "No progress.") var quiet = false
    @Option(help: ArgumentHelp("Write what can be read of the state to this file, as ndjson.", valueName: "file"))
    var salvage: String?

    @Argument(help: "What --data of kontiki serve names.") var directory: String

    func run() throws {
        do throws(any Error) {
            let line = ByteProgress(isQuiet: quiet)
            let report = try DataDirectory.examine(directory) { line.show($0, $1, $2) }
            line.clear()
            if json { try Display().emit(json: try Self.json(report)) } else { try Output.emit(Self.text(report).utf8) }
            if let salvage { try save(to: salvage) }
            if !report.isSound { throw ExitCode(1) }
        } catch let error as ExaminationError {
            say("kontiki: \(error)")
            throw ExitCode(2)
        }
    }

    private func save(to path: String) throws {
        let output = try OutputFile(path)
        let line = ByteProgress(isQuiet: quiet)
        var buffer: [UInt8] = []
        let saved = try DataDirectory.salvage(directory, progress: { line.show($0, $1, $2) }) { key, value, type in
            buffer += try NewlineDelimitedJSON.line(Record(key: Array(key), value: Array(value), contentType: type))
            if buffer.count >= 1 << 20 {
                try output.write(buffer)
                buffer.removeAll(keepingCapacity: true)
            }
        }
        try output.write(buffer)
        try output.publish()
        line.clear()
        say("saved \(saved.items) items of the state at revision \(saved.revision), entry \(saved.index), to \(path)")
        if let expected = saved.expectedItems, expected != saved.items {
            say(
                "not in it: \(max(expected, saved.items) - saved.items) of \(expected) items that the state should have"
            )
        } else if saved.expectedItems == nil {
            say("how many items the state should have cannot be read any more")
        }
        if saved.lastLogIndex > saved.index {
            say("not in it: what the entries \(saved.index + 1)–\(saved.lastLogIndex) of the log changed")
        }
    }

    // MARK: The report

    static func text(_ report: DirectoryReport) -> String {
        var lines: [String] = []
        for part in report.parts {
            let name = part.name.padding(toLength: 10, withPad: " ", startingAt: 0)
            let verdict = part.verdict.rawValue.padding(toLength: 8, withPad: " ", startingAt: 0)
            lines.append("\(name) \(verdict) \(Printable.shown(part.summary))")
            lines += part.damages.prefix(10).map { "           \(Printable.shown($0))" }
            if part.damages.count > 10 {
                lines.append("           and \(part.damages.count - 10) more (--json tells all)")
            }
            lines += part.notes.map { "           note: \(Printable.shown($0))" }
        }
        for name in report.leftovers { lines.append("other      \(Printable.shown(name))") }
        if !report.advice.isEmpty { lines += [""] + report.advice }
        return lines.joined(separator: "\n") + "\n"
    }

    private struct Document: Encodable {
        struct Part: Encodable {
            var name: String
            var verdict: String
            var summary: String
            var damages: [String]
            var notes: [String]
        }

        var directory: String
        var sound: Bool
        var parts: [Part]
        var remedy: String
        var advice: [String]
        var leftovers: [String]
    }

    static func json(_ report: DirectoryReport) throws -> [UInt8] {
        let document = Document(
            directory: report.directory,
            sound: report.isSound,
            parts: report.parts.map {
                .init(
                    name: $0.name,
                    verdict: $0.verdict.rawValue,
                    summary: $0.summary,
                    damages: $0.damages,
                    notes: $0.notes
                )
            },
            remedy: report.remedy.rawValue,
            advice: report.advice,
            leftovers: report.leftovers
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(document)) + [0x0A]
    }
}

/// Tells on standard error how much of a long reading is done: a line that is rewritten on a terminal, now and then one elsewhere.
private final class ByteProgress {
    private let isQuiet: Bool
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private let clock = ContinuousClock()
    private var last: ContinuousClock.Instant

    init(isQuiet: Bool) {
        self.isQuiet = isQuiet
        last = clock.now
    }

    func show(_ part: String, _ done: UInt64, _ total: UInt64) {
        guard !isQuiet, clock.now - last >= (isTerminal ? .milliseconds(200) : .seconds(5)) else { return }
        last = clock.now
        let share = total > 0 ? " of \(total >> 20) MiB, \(done * 100 / total) %" : " MiB"
        let text = "\(part): \(done >> 20)\(share)"
        if isTerminal { Output.write(Array("\r\u{1B}[K\(text)".utf8), to: STDERR_FILENO) } else { say(text) }
    }

    func clear() {
        if isTerminal && !isQuiet { Output.write(Array("\r\u{1B}[K".utf8), to: STDERR_FILENO) }
    }
}
