import KeyValue
import NIOCore

/// How changes are asked for: `watch`, `since`, `prev` and `wait`.
struct WatchOptions: Equatable, Sendable {
    /// The longest that a long poll may wait, in milliseconds.
    static let maximumWait = 600_000
    static let parameters = ["watch", "since", "prev", "wait"]

    /// Changes behind this revision; nil for those from now on.
    var since: UInt64?
    /// How many events of the revision behind ``since`` a client has that was cut off between two of them.
    var seen = 0
    var withPrevious = false
    /// Answer once, with what is there after the first change or after this time; nil streams.
    var waitMilliseconds: Int?

    /// nil when the query asks for no changes.
    init?(_ query: Query, _ fields: RequestFields) throws(Problem) {
        let watches = try query["watch"]?.flag() ?? false
        waitMilliseconds = try query["wait"].map { parameter throws(Problem) in
            try parameter.duration(maximum: Self.maximumWait)
        }
        if watches, waitMilliseconds != nil {
            throw .invalidParameter("wait", "answers once and watch streams; give one of the two.")
        }
        guard watches || waitMilliseconds != nil else {
            for name in ["since", "prev"] where query[name] != nil {
                throw .invalidParameter(name, "goes with watch or wait.")
            }
            return nil
        }
        since = try query["since"]?.number()
        withPrevious = try query["prev"]?.flag() ?? false
        // A client that was cut off sends its first target again, and this in addition.
        if watches, let text = fields.lastEventID {
            guard let place = EventID(text) else {
                throw .invalidParameter(
                    "Last-Event-ID",
                    "'\(text)' is no event's id: send back the last that came."
                )
            }
            (since, seen) = (place.after, place.seen)
        }
    }
}

/// A request for changes, of whatever.
struct WatchRequest: Sendable {
    var filter: EventFilter
    var options: WatchOptions
    /// The request for the key, when it is one.
    var key: KeyRequest?

    /// What a watch of a prefix or of a lock takes beside its target.
    static let parameters = ["watch", "since", "prev"]

    init(_ request: KeyRequest, _ options: WatchOptions) {
        filter = EventFilter(.key(request.key), withPrevious: options.withPrevious)
        self.options = options
        key = request
    }

    private init(_ filter: EventFilter, _ options: WatchOptions) {
        self.filter = filter
        self.options = options
    }

    /// The request when `target` asks for the changes of a prefix or of a lock; nil for all other targets.
    init?(target: String, fields: RequestFields, limits: KeyRequest.Limits) throws(Problem) {
        let (path, text) = RequestRouting.split(target)
        guard let text, path == "/kv" || path.hasPrefix("/locks/"), text.contains("watch") else { return nil }
        let query = try Query(parsing: text.utf8)
        guard query["watch"] != nil, query["key_b64"] == nil, let options = try WatchOptions(query, fields) else {
            return nil
        }
        if path == "/kv" {
            try query.check(known: ["prefix"] + Self.parameters)
            let prefix = query["prefix"]?.value ?? []
            guard prefix.count <= limits.keyBytes else {
                throw .invalidParameter("prefix", "has more than \(limits.keyBytes) bytes, as no key has.")
            }
            self.init(EventFilter(.prefix(prefix), withPrevious: options.withPrevious), options)
        } else {
            try query.check(known: Self.parameters)
            let segments = try APIRequest.segments(of: path)
            guard segments.count == 2 else { return nil }
            let name = Array(segments[1].utf8)
            if let reason = Command.validate(lockName: name) { throw .invalidCommand(reason) }
            self.init(EventFilter(.key(name), space: .locks, withPrevious: options.withPrevious), options)
        }
    }
}
