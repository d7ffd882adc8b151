import ArgumentParser
import Foundation
import KontikiClient

struct ExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write all keys, or those with a prefix, to a file or to standard output.",
        discussion: """
            The formats are those of import; only ndjson keeps content types. A file appears under its name when it is complete, and is \
            readable by nobody else. Leases, locks and the past are not in it.

              kontiki export backup.ndjson
              kontiki export --prefix packages/ - | cut -f1

            All keys are of one revision, that of when it began, however long it takes and whatever is written meanwhile: the node takes \
            its state down first, which needs as much room on its disk.
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var read: FreshnessOptions

    @Option(help: "tsv or ndjson.") var format: RecordFormat?
    @Option(help: "Only keys that begin with this.") var prefix = ""
    @Flag(name: .shortAndLong, help: "No progress, only the outcome.") var quiet = false

    @Argument(help: "The file; - is standard output.") var path: String

    func run() async throws {
        let format = format ?? RecordFormat(path: path)
        var progress = Progress(verb: "exported", isQuiet: quiet)
        var count = 0
        let output = try OutputFile(path)
        try await client.withClient { client in
            _ = try await client.backup(
                prefix: Key(prefix),
                consistency: read.consistency,
                minimumRevision: read.minimumRevision,
                maximumStaleness: read.maximumStaleness?.duration
            ) { lines in
                let records: (bytes: [UInt8], count: Int)
                do throws(MalformedRecord) {
                    records = try format.records(lines, forTerminal: output.isTerminal)
                } catch {
                    throw Failure(.data, "the node's answer is no backup: \(error.reason)")
                }
                try output.write(records.bytes)
                count += records.count
                progress.show(count: count)
            }
        }
        try output.publish()
        progress.finish(count: count)
    }
}

extension RecordFormat {
    /// Lines of a backup as they stand in a file of this format.
    fileprivate func records(
        _ lines: [UInt8],
        forTerminal: Bool
    ) throws(MalformedRecord) -> (bytes: [UInt8], count: Int) {
        let layout = Array("\n\t".utf8)
        switch self {
        case .ndjson:
            let count = lines.reduce(0) { $0 + ($1 == 0x0A ? 1 : 0) }
            return (forTerminal ? Printable.shown(lines, keeping: layout, as: .json) : lines, count)
        case .tsv:
            var (bytes, count) = ([UInt8](), 0)
            bytes.reserveCapacity(lines.count)
            for line in lines.split(separator: 0x0A) {
                guard case .record(let record) = try NewlineDelimitedJSON.parse(line) else {
                    throw MalformedRecord(reason: "a backup ends in its middle")
                }
                bytes += TabSeparated.line(key: record.key, value: record.value)
                count += 1
            }
            return (forTerminal ? Printable.shown(bytes, keeping: layout) : bytes, count)
        }
    }
}
