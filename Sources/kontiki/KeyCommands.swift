import ArgumentParser
import Foundation
import KontikiClient

struct GetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get",
        abstract: "Print the value of a key.",
        discussion: """
            The value's bytes go to standard output as they are; with --verbose its revisions go to standard error. \
            A key that does not exist is exit code 1.

              kontiki get hello
              kontiki get --consistency stale --endpoint localhost:8003 hello
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var read: ReadOptions

    @Flag(name: .shortAndLong, help: "Tell the revisions and the content type on standard error.")
    var verbose = false

    @Argument(help: "The key.") var key: String

    func run() async throws {
        let item = try await client.withClient { try await $0.get(Key(key), consistency: read.consistency) }
        guard let item else { throw Failure(.no, "there is no key “\(key)”") }
        if verbose {
            say(
                """
                created at \(item.createRevision), modified at \(item.modifyRevision), version \(item.version), \
                \(item.contentType ?? "no content type"), \(item.value.count) bytes
                """
            )
        }
        try Output.emit(item.value)
        if isatty(STDOUT_FILENO) == 1 && item.value.last != UInt8(ascii: "\n") { try Output.emit(line: "") }
    }
}

struct PutCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "put",
        abstract: "Write a key.",
        discussion: """
            Returns when the write is durable on a majority of the nodes, and prints the new revision.

              kontiki put hello world
              kontiki put config/app --content-type application/json --file app.json
              date | kontiki put now -
              kontiki put lock me --if-absent
              kontiki put hello again --if-revision 17

            A condition that does not hold is exit code 1. Exit code 75 means that the outcome is unknown: read the key to see.
            """
    )

    @OptionGroup var client: ClientOptions

    @Option(name: .long, help: "Kept with the value, like text/plain or application/json.") var contentType: String?
    @Option(name: .shortAndLong, help: ArgumentHelp("Take the value from a file.", valueName: "path")) var file: String?
    @OptionGroup var condition: ConditionOptions

    @Argument(help: "The key.") var key: String
    @Argument(help: "The value; - reads it from standard input.") var value: String?

    func validate() throws {
        if (value == nil) == (file == nil) {
            throw ValidationError("Give the value as an argument, or - for standard input, or --file.")
        }
    }

    func run() async throws {
        let bytes: [UInt8]
        if let file {
            bytes = try InputFile.readAll(file)
        } else if value == "-" {
            bytes = try InputFile.readAll("-")
        } else {
            bytes = Array((value ?? "").utf8)
        }
        let result = try await client.withClient {
            try await $0.put(Key(key), bytes, contentType: contentType, condition: condition.condition)
        }
        try Output.emit(line: "revision \(result.revision)" + (result.created ? " (created)" : ""))
    }
}

struct DeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete",
        abstract: "Delete a key, there or not.",
        discussion: """
              kontiki delete hello
              kontiki delete hello --if-revision 17
            """
    )

    @OptionGroup var client: ClientOptions

    @Option(name: .customLong("if-revision"), help: "Only if the key's modify revision is this one.")
    var revision: UInt64?

    @Argument(help: "The key.") var key: String

    func run() async throws {
        try await client.withClient { try await $0.delete(Key(key), condition: revision.map { .revision($0) }) }
    }
}

/// Under what condition a write takes place, as options.
struct ConditionOptions: ParsableArguments {
    @Option(name: .customLong("if-revision"), help: "Only if the key's modify revision is this one.")
    var revision: UInt64?

    @Flag(name: .customLong("if-absent"), help: "Only if the key does not exist.")
    var absent = false

    func validate() throws {
        if revision != nil && absent { throw ValidationError("--if-revision and --if-absent exclude each other.") }
    }

    var condition: Condition? { absent ? .absent : revision.map { .revision($0) } }
}

struct ListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List keys by prefix, in order.",
        discussion: """
              kontiki list                     every key
              kontiki list packages/           the keys below packages/
              kontiki list packages/ --values  with their values, tab-separated, as export writes them
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var read: ReadOptions

    @Flag(name: .long, help: "Print the values, too.") var values = false
    @Option(name: .shortAndLong, help: "The most keys to print.") var limit: Int?

    @Argument(help: "What the keys begin with.") var prefix = ""

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1.") }
    }

    func run() async throws {
        try await client.withClient { client in
            var left = limit ?? .max
            var cursor: String?
            repeat {
                let page = try await client.list(
                    prefix: Key(prefix),
                    limit: min(left, 1000),
                    cursor: cursor,
                    keysOnly: !values,
                    consistency: read.consistency
                )
                for item in page.items.prefix(left) {
                    try Output.emit(
                        values ? TabSeparated.line(key: item.key.bytes, value: item.value) : item.key.bytes + [0x0A]
                    )
                }
                left -= min(left, page.items.count)
                cursor = page.cursor
            } while cursor != nil && left > 0
        }
    }
}
