extension ServeCommand {
    /// The options that may stand in the environment, by their long names.
    private static let optionNames = [
        "id", "addr", "listen", "http", "http-listen", "data", "join", "replace", "rejoin", "election-timeout",
        "heartbeat",
        "request-timeout", "ready-timeout", "max-value-bytes", "snapshot-log-bytes", "trailing-log-bytes",
        "memtable-bytes",
        "snapshot-rate", "verify-state", "scrub-period", "log-level", "log-format",
    ]

    /// The command line of `serve`, completed by what the environment says of options that are not on it.
    static func addingEnvironment(_ environment: [String: String], to arguments: [String]) -> [String] {
        guard arguments.first == "serve" else { return arguments }
        func isGiven(_ name: String) -> Bool {
            arguments.contains { $0 == "--\(name)" || $0.hasPrefix("--\(name)=") }
        }
        func value(_ name: String) -> String? {
            let variable = "KONTIKI_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
            return environment[variable].flatMap { $0.isEmpty ? nil : $0 }
        }
        var result = arguments
        let beginsOtherwise = isGiven("bootstrap") || isGiven("join")
        for name in optionNames where !isGiven(name) && !(name == "join" && beginsOtherwise) {
            if name == "replace" && isGiven("bootstrap") { continue }
            if let value = value(name) { result.append("--\(name)=\(value)") }
        }
        if !beginsOtherwise, ["true", "1", "yes"].contains(value("bootstrap") ?? "") { result.append("--bootstrap") }
        return result
    }
}
