import ArgumentParser
import Foundation

/// The options of `serve` in the environment: each that `--help` shows, by the name that it says.
extension ServeCommand {
    private static let prefix = "KONTIKI_"
    /// Of this program and its commands, not of `serve`.
    private static let otherVariables = ["ENDPOINTS", "LOCK", "TOKEN", "FENCE", "REVISION", "EVENT", "KEY"]

    /// An option as the argument parser knows it, so that there is no second list of them.
    private struct Option: Decodable {
        struct Name: Decodable {
            var kind: String
            var name: String
        }

        var kind: String
        var shouldDisplay: Bool
        var names: [Name]?

        var isFlag: Bool { kind == "flag" }
        var name: String? { names?.first { $0.kind == "long" }?.name }
    }

    private struct Help: Decodable {
        struct Command: Decodable { var arguments: [Option]? }

        var command: Command
    }

    private static func variable(_ name: String) -> String {
        prefix + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
    }

    /// The options that may stand in the environment, by their long names.
    private static func options() throws -> [(name: String, isFlag: Bool)] {
        let help = try JSONDecoder().decode(Help.self, from: Data(_dumpHelp().utf8))
        return (help.command.arguments ?? []).filter(\.shouldDisplay).compactMap { option in
            option.name.flatMap { $0 == "help" || $0 == "version" ? nil : ($0, option.isFlag) }
        }
    }

    /// The command line of `serve`, completed by what the environment says of options that are not on it.
    ///
    /// Throws a `Failure` for a variable that is the name of an option but for a slip: the node would start with what its operator
    /// did not mean. Others that merely begin alike are left alone; Kubernetes sets some for a service of that name.
    static func addingEnvironment(_ environment: [String: String], to arguments: [String]) throws -> [String] {
        guard arguments.first == "serve", !arguments.contains("--help"), !arguments.contains("-h") else {
            return arguments
        }
        let options = try options()
        try refuseSlips(environment, options.map { variable($0.name) })
        func isGiven(_ name: String) -> Bool {
            arguments.contains { $0 == "--\(name)" || $0.hasPrefix("--\(name)=") }
        }
        let beginsOtherwise = isGiven("bootstrap") || isGiven("join")
        var result = arguments
        for (name, isFlag) in options where !isGiven(name) {
            // The command line says how to begin, and then all of it.
            if beginsOtherwise, ["bootstrap", "join"].contains(name) { continue }
            if isGiven("bootstrap"), name == "replace" { continue }
            guard let value = environment[variable(name)], !value.isEmpty else { continue }
            guard isFlag else {
                result.append("--\(name)=\(value)")
                continue
            }
            switch value {
            case "true", "1", "yes": result.append("--\(name)")
            case "false", "0", "no": break
            default: throw Failure(.usage, "\(variable(name)) must be true or false, not “\(value)”")
            }
        }
        return result
    }

    private static func refuseSlips(_ environment: [String: String], _ known: [String]) throws {
        let others = otherVariables.map { prefix + $0 }
        for variable in environment.keys.sorted() where variable.hasPrefix(prefix) {
            guard !known.contains(variable), !others.contains(variable) else { continue }
            let name = Array(variable.utf8.dropFirst(prefix.utf8.count))
            // A slip in a long name is a letter or two; in a short one, two letters make another word.
            let near = known.first {
                distance(name, Array($0.utf8.dropFirst(prefix.utf8.count))) <= min(2, name.count / 4)
            }
            if let near { throw Failure(.usage, "\(variable) is no option of kontiki serve; is \(near) meant?") }
        }
    }

    /// How many letters are to be put in, left out or changed to make one of the other.
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var row = Array(0...right.count)
        for (index, byte) in left.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in right.indices {
                let changed = diagonal + (byte == right[column] ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(changed, row[column] + 1, diagonal + 1)
            }
        }
        return row[right.count]
    }
}
