import ArgumentParser
import Foundation
import KontikiClient

struct WatchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "watch",
        abstract: "Follow the changes of a key or of all keys with a prefix.",
        discussion: """
              kontiki watch config/app
              kontiki watch --prefix services/ --json
              kontiki watch --prefix services/ --since 1200        what changed behind revision 1200, and on
              kontiki watch config/app -- ./reload.sh              a command for each change

            A line for each change: revision, kind (put, delete or expire), key and value, tab-separated, with tabs, line feeds and \
            backslashes escaped as export does it, and on a terminal what that would take for commands, unless --raw. It goes on at another node when one fails, without a gap and without a duplicate. A past \
            that the cluster no longer has is exit code 1: list the keys, and watch from that revision on.

            A command finds the value on its standard input, and in its environment KONTIKI_REVISION, KONTIKI_EVENT and KONTIKI_KEY. \
            The next change waits until it has ended; one that fails ends the watch with its exit code.
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: DisplayOptions

    @Flag(name: .long, help: "All keys that begin with what is given; all keys when nothing is.") var prefix = false
    @Option(help: ArgumentHelp("Begin behind this revision instead of now.", valueName: "revision")) var since: UInt64?
    @Flag(name: .long, help: "Ask for what was there before; shown with --json.") var previous = false
    @Flag(name: .long, help: "Print each change as the node tells it, JSON.") var json = false
    @Option(name: .shortAndLong, help: "End after so many changes.") var limit: Int?
    @Argument(help: "The key, or the prefix.") var key = ""
    @Argument(parsing: .postTerminator, help: "A command for each change, behind --.") var command: [String] = []

    func validate() throws {
        if key.isEmpty && !prefix { throw ValidationError("Give a key, or --prefix for all keys.") }
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1.") }
    }

    func run() async throws {
        let target: KontikiClient.WatchTarget = prefix ? .prefix(Key(key)) : .key(Key(key))
        try await client.withClient { client in
            var left = limit ?? .max
            try await client.watch(target, since: since, withPrevious: previous) { event in
                try await show(event)
                left -= 1
                return left > 0
            }
        }
    }

    private func show(_ event: KontikiClient.WatchEvent) async throws {
        guard command.isEmpty else {
            let process = try CommandProcess(
                command,
                environment: [
                    "KONTIKI_REVISION": "\(event.revision)",
                    "KONTIKI_EVENT": event.kind.rawValue,
                    "KONTIKI_KEY": event.key.description,
                ],
                input: event.value
            )
            let status = await process.waitUntilEnd()
            guard status == 0 else { throw ExitCode(status) }
            return
        }
        if json { return try output.display.emit(json: event.document) }
        let head = [Array("\(event.revision)".utf8), Array(event.kind.rawValue.utf8)]
        try output.display.emit(fields: head + [event.key.bytes, event.value])
    }
}
