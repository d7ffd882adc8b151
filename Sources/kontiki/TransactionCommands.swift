import ArgumentParser
import KontikiClient

struct TransactionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "txn",
        abstract: "Compare and change several keys as one.",
        discussion: """
            The file says in JSON what is compared, and what is done if all of it holds, or else:

              {"compare": [{"key": "a", "target": "value", "op": "=", "value": "1"}],
               "success": [{"put": {"key": "a", "value": "2"}}, {"delete": {"key": "b"}}],
               "failure": [{"get": {"key": "a"}}]}

              kontiki txn transfer.json
              kontiki txn - < transfer.json

            Targets are value, version, create_revision, mod_revision, exists and lease; operators =, !=, < and >; operations put, \
            delete (key or prefix), get (key or prefix with limit) and incr. The node's answer is printed, JSON. Exit code 1 when the \
            comparisons did not hold.
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var fence: FenceOptions

    @Argument(help: "The file; - is standard input.") var path: String

    func run() async throws {
        let document = try InputFile.readAll(path)
        let answer = try await client.withClient { try await $0.transaction(document, fence: fence.fence) }
        try Display().emit(json: answer.document)
        guard answer.succeeded else { throw ExitCode(ExitStatus.no.rawValue) }
    }
}

struct IncrementCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "incr",
        abstract: "Add to the number that a key holds, and print the sum.",
        discussion: """
              kontiki incr visits
              kontiki incr stock/4711 -- -3

            The value is decimal text; a key that does not exist counts as 0. Executed once, however often it has to be sent.
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var fence: FenceOptions

    @Argument(help: "The key.") var key: String
    @Argument(help: "How much to add.") var amount: Int64 = 1

    func run() async throws {
        let sum = try await client.withClient { try await $0.increment(Key(key), by: amount, fence: fence.fence) }
        try Output.emit(line: "\(sum)")
    }
}

/// That a write takes place only while a lock is held, as an option.
struct FenceOptions: ParsableArguments {
    @Option(
        name: .customLong("fence"),
        help: ArgumentHelp(
            "Only while the lock is held with this token, as kontiki lock tells it.",
            valueName: "lock=token"
        )
    )
    var text: String?

    func validate() throws {
        if text != nil && fence == nil { throw ValidationError("--fence is the lock's name, = and its token.") }
    }

    var fence: Fence? { text.flatMap { Fence($0) } }
}

struct CompletionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "completion",
        abstract: "Print a script that completes this program's commands in a shell.",
        discussion: """
              kontiki completion bash > /etc/bash_completion.d/kontiki
              kontiki completion zsh > "${fpath[1]}/_kontiki"
              kontiki completion fish > ~/.config/fish/completions/kontiki.fish
            """
    )

    enum Shell: String, ExpressibleByArgument, CaseIterable {
        case bash, zsh, fish
    }

    @Argument(help: "The shell.") var shell: Shell

    func run() throws {
        let kind: CompletionShell =
            switch shell {
            case .bash: .bash
            case .zsh: .zsh
            case .fish: .fish
            }
        try Output.emit((Kontiki.completionScript(for: kind) + "\n").utf8)
    }
}
