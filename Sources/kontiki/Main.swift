import ArgumentParser
import Foundation
import KontikiClient

/// The program's entrance: takes the command line, adds what the environment says, and turns errors into exit codes.
@main
enum Main {
    static func main() async {
        // A reader that goes away (`kontiki list | head`) is seen as an error of the write, not as a silent end.
        signal(SIGPIPE, SIG_IGN)
        do {
            let arguments = try ServeCommand.addingEnvironment(
                ProcessInfo.processInfo.environment,
                to: Array(CommandLine.arguments.dropFirst())
            )
            var command = try Kontiki.parseAsRoot(arguments)
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let failure as Failure {
            say("kontiki: \(failure.message)")
            exit(failure.status.rawValue)
        } catch let error as ClientError {
            say("kontiki: \(error)")
            exit(ExitStatus(error).rawValue)
        } catch {
            Kontiki.exit(withError: error)
        }
    }
}

/// The root command.
struct Kontiki: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kontiki",
        abstract: "A durable, replicated key-value store.",
        discussion: """
            A first cluster of three nodes on this machine:
              kontiki dev
            and in another terminal:
              kontiki put hello world
              kontiki get hello
              kontiki status

            Client commands ask http://localhost:8001 unless --endpoint, or KONTIKI_ENDPOINTS (comma-separated), names others.

            Exit codes:
            \(ExitStatus.explanation)
            """,
        version: ProgramVersion.text,
        subcommands: [],
        groupedSubcommands: [
            CommandGroup(name: "Nodes", subcommands: [DevCommand.self, ServeCommand.self, CheckCommand.self]),
            CommandGroup(
                name: "Keys",
                subcommands: [
                    GetCommand.self, PutCommand.self, DeleteCommand.self, ListCommand.self, IncrementCommand.self,
                    TransactionCommand.self, WatchCommand.self, ImportCommand.self, ExportCommand.self,
                ]
            ),
            CommandGroup(
                name: "Coordination",
                subcommands: [LeaseCommand.self, LockCommand.self, ElectCommand.self]
            ),
            CommandGroup(
                name: "Cluster",
                subcommands: [StatusCommand.self, MemberCommand.self, TransferCommand.self]
            ),
            CommandGroup(name: "Proof", subcommands: [SimulateCommand.self, VerifyCommand.self]),
            CommandGroup(name: "Shell", subcommands: [CompletionCommand.self]),
        ]
    )
}

/// The version of the program.
enum ProgramVersion {
    static let text = "0.1.0"
}
