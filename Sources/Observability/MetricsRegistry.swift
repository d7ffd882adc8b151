internal import Synchronization

/// All metrics of a program, and their text for Prometheus.
///
/// Metrics are made once, at the start, and kept by who counts: counting never comes here. What is known elsewhere anyway is not
/// counted at all, but asked for when the text is made; see ``collect(_:)``.
public final class MetricsRegistry: Sendable {
    public typealias Labels = [(name: String, value: String)]

    private enum Metric: Sendable {
        case counter(Counter)
        case gauge(Gauge)
        case histogram(Histogram)
    }

    private struct Family: Sendable {
        var help: String
        var kind: Exposition.Kind
        var members: [(labels: Labels, metric: Metric)]
    }

    private struct State {
        /// In the order in which they were made.
        var names: [String] = []
        var families: [String: Family] = [:]
        var collectors: [@Sendable (inout Exposition) -> Void] = []
    }

    private let state = Mutex(State())

    public init() {}

    /// A counter; the one that there is when it was made before. `name` ends in `_total`.
    public func counter(_ name: String, help: String, labels: Labels = []) -> Counter {
        let made = make(name, help, .counter, labels) { .counter(Counter()) }
        if case .counter(let counter) = made { return counter }
        return Counter()
    }

    public func gauge(_ name: String, help: String, labels: Labels = []) -> Gauge {
        let made = make(name, help, .gauge, labels) { .gauge(Gauge()) }
        if case .gauge(let gauge) = made { return gauge }
        return Gauge()
    }

    public func histogram(
        _ name: String,
        help: String,
        labels: Labels = [],
        _ histogram: @autoclosure () -> Histogram
    ) -> Histogram {
        let new = histogram()
        let made = make(name, help, .histogram, labels) { .histogram(new) }
        if case .histogram(let histogram) = made { return histogram }
        return new
    }

    /// Has `collector` called whenever the text is made, on the thread that makes it.
    public func collect(_ collector: @escaping @Sendable (inout Exposition) -> Void) {
        state.withLock { $0.collectors.append(collector) }
    }

    /// What is there of that name and those labels, or a new one. One of another kind under the same name stays as it is, and the new
    /// one is not shown: a name has one kind.
    private func make(
        _ name: String,
        _ help: String,
        _ kind: Exposition.Kind,
        _ labels: Labels,
        _ make: () -> Metric
    ) -> Metric {
        state.withLock { state in
            if state.families[name] == nil {
                state.names.append(name)
                state.families[name] = Family(help: help, kind: kind, members: [])
            }
            let family = state.families[name]
            if family?.kind != kind { return make() }
            let found = family?.members.first { $0.labels.elementsEqual(labels) { $0 == $1 } }
            if let found { return found.metric }
            let new = make()
            state.families[name]?.members.append((labels, new))
            return new
        }
    }

    /// Everything, in Prometheus' text format 0.0.4.
    public func text() -> [UInt8] {
        let (families, collectors) = state.withLock { state in
            (state.names.compactMap { name in state.families[name].map { (name, $0) } }, state.collectors)
        }
        var exposition = Exposition()
        for (name, family) in families {
            exposition.begin(name, family.kind, family.help)
            for (labels, metric) in family.members {
                switch metric {
                case .counter(let counter): exposition.sample(labels, counter.value)
                case .gauge(let gauge): exposition.sample(labels, gauge.value)
                case .histogram(let histogram): exposition.sample(labels, histogram)
                }
            }
        }
        for collector in collectors { collector(&exposition) }
        return exposition.bytes
    }
}
