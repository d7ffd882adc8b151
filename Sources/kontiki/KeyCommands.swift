import ArgumentParser
import Foundation
import KontikiClient

struct GetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get",
        abstract: "Print the value of a key.",
        discussion: """
            The value's bytes go to standard output as they are, but for what a terminal would take for commands: that is shown as \
            escapes unless --raw. With --verbose its revisions go to standard error. A key that does not exist is exit code 1.

              kontiki get hello
              kontiki get --consistency stale --endpoint localhost:8003 hello
              kontiki get --rev 1200 hello                       as it stood at that revision
              kontiki get --consistency bounded --max-stale 500ms hello
              kontiki get --json hello                           with its revisions
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var read: ReadOptions
    @OptionGroup var output: DisplayOptions

    @Flag(name: .shortAndLong, help: "Tell the revisions and the content type on standard error.")
    var verbose = false
    @Flag(name: .long, help: "Print the key with its value and revisions, JSON.") var json = false

    @Argument(help: "The key.") var key: String

    func run() async throws {
        let item = try await client.withClient {
            try await $0.get(
                Key(key),
                consistency: read.consistency,
                revision: read.revision,
                minimumRevision: read.minimumRevision,
                maximumStaleness: read.maximumStaleness
            )
        }
        guard let item else { throw Failure(.no, "there is no key “\(key)”") }
        if json { return try output.display.emit(json: NewlineDelimitedJSON.line(item)) }
        if verbose {
            say(
                """
                created at \(item.createRevision), modified at \(item.modifyRevision), version \(item.version), \
                \(item.contentType ?? "no content type"), \(item.value.count) bytes
                """
            )
        }
        try output.display.emit(value: item.value)
        if Display.isTerminal && item.value.last != UInt8(ascii: "\n") { try Output.emit(line: "") }
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
              kontiki put session/4711 alice --ttl 30m
              kontiki put services/web/host1 10.0.0.1:80 --lease $lease

            A condition that does not hold is exit code 1. Exit code 75 means that the outcome is unknown even after trying again: read \
            the key to see.
            """
    )

    @OptionGroup var client: ClientOptions

    @Option(name: .long, help: "Kept with the value, like text/plain or application/json.") var contentType: String?
    @Option(name: .shortAndLong, help: ArgumentHelp("Take the value from a file.", valueName: "path")) var file: String?
    @Option(help: ArgumentHelp("The key ends by itself so long after this write.", valueName: "duration")) var ttl:
        Span?
    @Option(help: ArgumentHelp("The key ends with this lease.", valueName: "name")) var lease: LeaseID?
    @OptionGroup var condition: ConditionOptions
    @OptionGroup var fence: FenceOptions

    @Argument(help: "The key.") var key: String
    @Argument(help: "The value; - reads it from standard input.") var value: String?

    func validate() throws {
        if (value == nil) == (file == nil) {
            throw ValidationError("Give the value as an argument, or - for standard input, or --file.")
        }
        if ttl != nil && lease != nil { throw ValidationError("--ttl and --lease exclude each other.") }
    }

    private var lifetime: Lifetime {
        if let lease { return .lease(lease) }
        return ttl.map { .time($0.duration) } ?? .unbounded
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
            try await $0.put(
                Key(key),
                bytes,
                contentType: contentType,
                condition: condition.condition,
                lifetime: lifetime,
                fence: fence.fence
            )
        }
        try Output.emit(line: "revision \(result.revision)" + (result.created ? " (created)" : ""))
    }
}

struct DeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete",
        abstract: "Delete a key, there or not; or all keys with a prefix.",
        discussion: """
              kontiki delete hello
              kontiki delete hello --if-revision 17
              kontiki delete --prefix services/old/     as one change; prints how many there were
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var fence: FenceOptions

    @Option(name: .customLong("if-revision"), help: "Only if the key's modify revision is this one.")
    var revision: UInt64?
    @Flag(name: .long, help: "All keys that begin with what is given.") var prefix = false

    @Argument(help: "The key, or the prefix.") var key: String

    func validate() throws {
        if prefix && revision != nil { throw ValidationError("--if-revision is for one key.") }
    }

    func run() async throws {
        try await client.withClient { client in
            guard prefix else {
                return try await client.delete(
                    Key(key),
                    condition: revision.map { .revision($0) },
                    fence: fence.fence
                )
            }
            let count = try await client.delete(prefix: Key(key), fence: fence.fence)
            try Output.emit(line: "\(count) deleted")
        }
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
              kontiki list --prefix packages/  the same
              kontiki list packages/ --values  with their values, tab-separated, as export writes them
              kontiki list packages/ --delimiter /   one level: keys, and what deeper ones begin with
              kontiki list packages/ --rev 1200      as they stood at that revision
              kontiki list packages/ --count         only how many

            However long it is, the list is that of one revision. A line is a key: tabs, line ends and backslashes in it are escaped as \
            export does it, and on a terminal what that would take for commands. --raw prints the bytes as they are.
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var read: ReadOptions
    @OptionGroup var output: DisplayOptions

    @Flag(name: .long, help: "Print the values, too.") var values = false
    @Flag(name: .long, help: "Print each item with its revisions, a line of JSON.") var json = false
    @Flag(name: .long, help: "From the highest key down.") var reverse = false
    @Flag(name: .long, help: "Print only how many there are.") var count = false
    @Option(help: "Group keys by their part up to and with this text behind the prefix.") var delimiter: String?
    @Option(name: .shortAndLong, help: "The most keys to print.") var limit: Int?
    @Option(name: .customLong("prefix"), help: "What the keys begin with.") var prefixOption: String?

    @Argument(help: "What the keys begin with.") var prefix = ""

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1.") }
        if prefixOption != nil && !prefix.isEmpty { throw ValidationError("Give the prefix once.") }
    }

    func run() async throws {
        let prefix = Key(prefixOption ?? prefix)
        try await client.withClient { client in
            if count {
                let number = try await client.count(
                    prefix: prefix,
                    consistency: read.consistency,
                    revision: read.revision,
                    minimumRevision: read.minimumRevision,
                    maximumStaleness: read.maximumStaleness
                )
                return try Output.emit(line: "\(number)")
            }
            var left = limit ?? .max
            var cursor: String?
            repeat {
                let page = try await client.list(
                    prefix: prefix,
                    limit: min(left, 1000),
                    cursor: cursor,
                    keysOnly: !values && !json,
                    reverse: reverse,
                    delimiter: delimiter,
                    consistency: read.consistency,
                    revision: read.revision,
                    minimumRevision: read.minimumRevision,
                    maximumStaleness: read.maximumStaleness
                )
                try show(page)
                left -= min(left, page.items.count + page.prefixes.count)
                cursor = page.cursor
            } while cursor != nil && left > 0
        }
    }

    /// Items and groups in one order, as they come in the store.
    private func show(_ page: Page) throws {
        var groups = page.prefixes[...]
        for item in page.items {
            while let group = groups.first, reverse ? group > item.key : group < item.key {
                try show(group: groups.removeFirst())
            }
            if json {
                try output.display.emit(json: NewlineDelimitedJSON.line(item))
            } else {
                try output.display.emit(fields: [item.key.bytes] + (values ? [item.value] : []))
            }
        }
        for group in groups { try show(group: group) }
    }

    private func show(group: Key) throws {
        if json { return try output.display.emit(json: NewlineDelimitedJSON.line(prefix: group)) }
        try output.display.emit(fields: [group.bytes])
    }
}
