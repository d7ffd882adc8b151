import ArgumentParser
import Foundation
import KontikiClient

/// How records stand in a file.
enum RecordFormat: String, ExpressibleByArgument, CaseIterable {
    case tsv, ndjson

    /// By the name of the file, `tsv` where it does not tell.
    init(path: String) {
        self = path.hasSuffix(".ndjson") || path.hasSuffix(".jsonl") ? .ndjson : .tsv
    }

    func parse(_ line: ArraySlice<UInt8>) throws(MalformedRecord) -> NewlineDelimitedJSON.Line {
        let parsed =
            switch self {
            case .tsv: NewlineDelimitedJSON.Line.record(try TabSeparated.parse(line))
            case .ndjson: try NewlineDelimitedJSON.parse(line)
            }
        guard case .record(let record) = parsed else { return parsed }
        guard !record.key.isEmpty else { throw MalformedRecord(reason: "the key is empty") }
        guard record.key.count <= RecordLimits.keyBytes else {
            throw MalformedRecord(
                reason: "the key has \(record.key.count) bytes; at most \(RecordLimits.keyBytes) are allowed"
            )
        }
        return parsed
    }
}

struct ImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Write many keys from a file or from standard input.",
        discussion: #"""
            One record a line. tsv: the key, a tab, the value; \t \n \r \\ stand for a tab, a line feed, a carriage return and a \#
            backslash. ndjson: {"key": "a", "value": "b", "content_type": "text/plain"}, with key_base64 and value_base64 for \#
            bytes that are no text. The format follows the file's name (.ndjson, .jsonl) unless --format names it.

              dpkg-query -W -f='packages/${Package}\t${Version}\n' | kontiki import -
              kontiki import --prefix staging/ settings.ndjson

            Several lines of one key are written in their order. An import that was interrupted is resumed by running it again: a \#
            record that is there already is only written once more. A malformed line is reported with its number and ends \#
            the import (exit code 65) unless --skip-bad; nothing before it is lost, nothing after it is begun. A file that ends as the \#
            answer of GET /snapshot does is held against what its last line says.
            """#
    )

    @OptionGroup var client: ClientOptions

    @Option(help: "tsv or ndjson.") var format: RecordFormat?
    @Option(help: "Put this in front of every key.") var prefix = ""
    @Option(help: "Requests under way at a time.") var parallel = 64
    @Flag(name: .long, help: "Report malformed lines and go on; the exit code is still 65.") var skipBad = false
    @Flag(name: .shortAndLong, help: "No progress, only the outcome.") var quiet = false

    @Argument(help: "The file; - is standard input.") var path: String

    func validate() throws {
        guard (1...4096).contains(parallel) else { throw ValidationError("--parallel must be from 1 to 4096.") }
    }

    func run() async throws {
        var input = try InputFile(path)
        let format = format ?? RecordFormat(path: path)
        var progress = Progress(verb: "stored", isQuiet: quiet, total: input.size)
        var bad = 0
        var backup = BackupReading()
        try await client.withClient { options in
            options.isExactlyOnce = false
            options.retriesUnknownWrites = true
            options.connectionsPerNode = parallel
            options.totalTimeout = max(options.totalTimeout, .seconds(30))
        } _: { client in
            var window = PutWindow(client: client, limit: parallel)
            do {
                while let line = try await input.nextLine() {
                    if line.isEmpty { continue }
                    do {
                        guard var record = try backup.record(in: line, format) else { continue }
                        if !prefix.isEmpty { record = try prefixed(record) }
                        try await window.put(record, line: input.lineNumber)
                    } catch let error as MalformedRecord {
                        bad += 1
                        say("kontiki: line \(input.lineNumber): \(error.reason)")
                        if !skipBad { break }
                    }
                    progress.show(count: window.stored, bytes: input.bytesRead)
                }
                try await window.drain()
            } catch {
                progress.finish(count: window.stored)
                throw error
            }
            progress.finish(count: window.stored)
        }
        guard bad == 0 else {
            throw Failure(
                .data,
                skipBad
                    ? "\(bad) malformed \(bad == 1 ? "line was" : "lines were") left out"
                    : "stopped at line \(input.lineNumber); mend it and run the import again, or leave such lines out with --skip-bad"
            )
        }
        try backup.check()
    }

    private func prefixed(_ record: Record) throws(MalformedRecord) -> Record {
        var record = record
        record.key = Array(prefix.utf8) + record.key
        guard record.key.count <= RecordLimits.keyBytes else {
            throw MalformedRecord(reason: "the key with its prefix is longer than \(RecordLimits.keyBytes) bytes")
        }
        return record
    }
}

/// What is known of a file that may be a backup with an end of its own.
private struct BackupReading {
    private var sum = BackupSum()
    private var end: BackupEnd?
    private var hasMore = false

    /// The record of a line; nil for the end of a backup.
    mutating func record(in line: ArraySlice<UInt8>, _ format: RecordFormat) throws(MalformedRecord) -> Record? {
        hasMore = end != nil
        switch try format.parse(line) {
        case .end(let end):
            self.end = end
            return nil
        case .record(let record):
            sum.add(line: line)
            return record
        }
    }

    /// Throws where the file is not the whole backup. One that says nothing of its end may be anything.
    func check() throws(Failure) {
        guard let end else { return }
        guard !hasMore, sum.matches(end) else {
            let reason = hasMore ? "lines follow its end" : sum.difference(from: end)
            throw Failure(.data, "the backup is incomplete or damaged: \(reason); what it has was stored")
        }
    }
}
