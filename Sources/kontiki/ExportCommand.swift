import ArgumentParser
import Foundation
import KontikiClient

struct ExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write all keys, or those with a prefix, to a file or to standard output.",
        discussion: """
            The formats are those of import; only ndjson keeps content types. A file appears under its name when it is complete.

              kontiki export backup.ndjson
              kontiki export --prefix packages/ - | cut -f1
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var read: ReadOptions

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
            var cursor: String?
            repeat {
                let page = try await client.list(
                    prefix: Key(prefix),
                    limit: 500,
                    cursor: cursor,
                    consistency: read.consistency
                )
                var lines: [UInt8] = []
                for item in page.items {
                    lines += try format.line(
                        Record(key: item.key.bytes, value: item.value, contentType: item.contentType)
                    )
                }
                try output.write(lines)
                count += page.items.count
                progress.show(count: count)
                cursor = page.cursor
            } while cursor != nil
        }
        try output.publish()
        progress.finish(count: count)
    }
}

/// A file that gets its name when it is complete and durable, or standard output.
struct OutputFile: ~Copyable {
    private let descriptor: Int32
    private let path: String?
    private let temporary: String

    init(_ path: String) throws {
        temporary = "\(path).partial-\(getpid())"
        self.path = path == "-" ? nil : path
        descriptor = path == "-" ? STDOUT_FILENO : open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Self.failed(path) }
    }

    deinit {
        guard path != nil else { return }
        close(descriptor)
        // Gone already when it was published.
        unlink(temporary)
    }

    func write(_ bytes: [UInt8]) throws {
        guard Output.write(bytes, to: descriptor) else { throw Self.failed(path ?? "standard output") }
    }

    func publish() throws {
        guard let path else { return }
        guard fsync(descriptor) == 0, rename(temporary, path) == 0 else { throw Self.failed(path) }
    }

    private static func failed(_ path: String) -> Failure {
        Failure(.io, "\(path) cannot be written: \(String(cString: strerror(errno)))")
    }
}
