//! Answers for the cluster's domain, by Kubernetes' specification of DNS-based service discovery. Pure.
//!
//! A name that exists without a record of the type asked for has no data; only a name that does not exist is denied: stub
//! resolvers go on along their search path after the one, and must not stop looking for A after a denied AAAA.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::Endpoint;

use crate::dns::records::Records;
use crate::services::model::SERVICE_NAME;

/// How long clients may keep answers, in seconds: short, since endpoints come and go.
const TTL_SECONDS: u32 = 5;
/// The version of the specification.
const SCHEMA_VERSION: &str = "1.1.0";

/// What is to be said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These records, and these besides.
    Records(Vec<Record>, Vec<Record>),
    /// The name is another name outside the cluster; its records are to be fetched.
    Alias(Record, Name),
    /// The name exists, without such a record.
    NoData(Record),
    /// The name does not exist.
    Denied(Record),
    /// Not ours: ask others.
    Elsewhere,
}

/// The zone's fixed facts.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Vec<String>,
    name: Name,
    /// Pods and Services: addresses whose names nobody else can know.
    ranges: Vec<Ipv4Net>,
    address: Ipv4Addr,
}

fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect()
}

fn dashed(address: &str) -> String {
    address.replace(['.', ':'], "-")
}

/// An endpoint with the name it has below its Service.
struct Found {
    hostname: String,
    address: Ipv4Addr,
    ports: Vec<(String, String, u16)>,
}

impl Zone {
    /// Of a domain (`cluster.local`), with the server's own address.
    ///
    /// # Errors
    /// If the domain is no name.
    pub fn new(domain: &str, ranges: Vec<Ipv4Net>, address: Ipv4Addr) -> Result<Self, String> {
        let mut name = Name::from_ascii(domain).map_err(|error| format!("cluster domain {domain:?}: {error}"))?;
        name.set_fqdn(true);
        Ok(Self { domain: labels(&name), name, ranges, address })
    }

    fn name(&self, parts: &[&str]) -> Option<Name> {
        let domain = self.domain.iter().map(String::as_bytes);
        let mut name = Name::from_labels(parts.iter().map(|p| p.as_bytes()).chain(domain)).ok()?;
        name.set_fqdn(true);
        Some(name)
    }

    fn soa(&self) -> Record {
        let name = |label: &str| self.name(&[label]).unwrap_or_else(|| self.name.clone());
        // The zone has no history: the serial never changes and nobody transfers it.
        let soa = SOA::new(name("ns"), name("hostmaster"), 1, 7200, 1800, 86400, TTL_SECONDS);
        Record::from_rdata(self.name.clone(), TTL_SECONDS, RData::SOA(soa))
    }

    fn no_data(&self) -> Answer {
        Answer::NoData(self.soa())
    }

    fn denied(&self) -> Answer {
        Answer::Denied(self.soa())
    }

    fn records(&self, records: Vec<Record>) -> Answer {
        if records.is_empty() { self.no_data() } else { Answer::Records(records, Vec::new()) }
    }

    /// Answers a question.
    pub fn answer(&self, name: &Name, kind: RecordType, records: &dyn Records) -> Answer {
        let all = labels(name);
        if let Some(address) = reverse_address(&all) {
            return self.reverse(name, address, kind, records);
        }
        let Some(own) = all.strip_suffix(self.domain.as_slice()) else { return Answer::Elsewhere };
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        match own.as_slice() {
            [] => self.apex(name, kind),
            ["ns"] if kind == RecordType::A => self.records(vec![a(name, self.address)]),
            ["svc" | "pod" | "ns"] => self.no_data(),
            ["dns-version"] if kind == RecordType::TXT => {
                let text = RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]));
                self.records(vec![Record::from_rdata(name.clone(), TTL_SECONDS, text)])
            }
            ["dns-version"] => self.no_data(),
            [namespace, "svc" | "pod"] if records.has_namespace(namespace) => self.no_data(),
            [address, namespace, "pod"] => self.pod(name, address, namespace, kind, records),
            [rest @ .., service, namespace, "svc"] => match records.service(namespace, service) {
                Some(found) => self.service(name, kind, &found, rest, records),
                None => self.denied(),
            },
            _ => self.denied(),
        }
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Answer {
        match kind {
            RecordType::SOA => Answer::Records(vec![self.soa()], Vec::new()),
            RecordType::NS => {
                let Some(server) = self.name(&["ns"]) else { return self.no_data() };
                let besides = vec![a(&server, self.address)];
                let record = Record::from_rdata(name.clone(), TTL_SECONDS, RData::NS(NS(server)));
                Answer::Records(vec![record], besides)
            }
            _ => self.no_data(),
        }
    }

    /// `1-2-3-4.namespace.pod`: the name says the address; the namespace must exist.
    fn pod(&self, name: &Name, address: &str, namespace: &str, kind: RecordType, records: &dyn Records) -> Answer {
        if !records.has_namespace(namespace) {
            return self.denied();
        }
        match address.replace('-', ".").parse() {
            Ok(address) if kind == RecordType::A => self.records(vec![a(name, address)]),
            Ok(_) => self.no_data(),
            Err(_) => self.denied(),
        }
    }

    fn service(
        &self,
        name: &Name,
        kind: RecordType,
        service: &Service,
        rest: &[&str],
        records: &dyn Records,
    ) -> Answer {
        let Some(spec) = &service.spec else { return self.denied() };
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().and_then(|n| Name::from_ascii(n).ok()).map(|mut target| {
                target.set_fqdn(true);
                target
            });
            return match target {
                Some(target) if rest.is_empty() => {
                    let record = Record::from_rdata(name.clone(), TTL_SECONDS, RData::CNAME(CNAME(target.clone())));
                    Answer::Alias(record, target)
                }
                _ => self.denied(),
            };
        }
        let (namespace, service_name) = names(service);
        let is_headless = spec.cluster_ip.as_deref() == Some("None");
        match rest {
            [] if kind == RecordType::SRV => self.srv(name, service, None, records),
            [] if kind != RecordType::A => self.no_data(),
            [] if is_headless => {
                let addresses: BTreeSet<_> =
                    self.endpoints(namespace, service_name, records).iter().map(|e| e.address).collect();
                self.records(addresses.into_iter().map(|address| a(name, address)).collect())
            }
            [] => self.records(cluster_addresses(service).map(|address| a(name, address)).collect()),
            [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
                match self.srv(name, service, Some((&port[1..], &protocol[1..])), records) {
                    Answer::NoData(_) => self.denied(),
                    _ if kind != RecordType::SRV => self.no_data(),
                    found => found,
                }
            }
            [hostname] => {
                let found = self.endpoints(namespace, service_name, records);
                let addresses: BTreeSet<_> =
                    found.iter().filter(|e| e.hostname == *hostname).map(|e| e.address).collect();
                match (addresses.is_empty(), kind) {
                    (true, _) => self.denied(),
                    (false, RecordType::A) => {
                        self.records(addresses.into_iter().map(|address| a(name, address)).collect())
                    }
                    (false, _) => self.no_data(),
                }
            }
            _ => self.denied(),
        }
    }

    fn endpoints(&self, namespace: &str, service: &str, records: &dyn Records) -> Vec<Found> {
        let mut found = Vec::new();
        for slice in records.slices(namespace, service).iter().filter(|s| s.address_type == "IPv4") {
            let ports: Vec<_> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|p| {
                    let number = u16::try_from(p.port?).ok()?;
                    let protocol = p.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
                    Some((p.name.clone().unwrap_or_default(), protocol, number))
                })
                .collect();
            // Those that are to be published before they are ready are marked ready in the slice.
            for endpoint in slice.endpoints.iter().flatten().filter(|e| is_ready(e)) {
                for address in &endpoint.addresses {
                    if let Ok(parsed) = address.parse() {
                        let hostname = endpoint.hostname.clone().filter(|h| !h.is_empty());
                        let hostname = hostname.unwrap_or_else(|| dashed(address)).to_ascii_lowercase();
                        found.push(Found { hostname, address: parsed, ports: ports.clone() });
                    }
                }
            }
        }
        found
    }

    fn srv(&self, name: &Name, service: &Service, wanted: Option<(&str, &str)>, records: &dyn Records) -> Answer {
        let (namespace, service_name) = names(service);
        let spec = service.spec.as_ref();
        let is_wanted = |port: &str, protocol: &str| {
            // Ports without a name have no record of their own.
            wanted.map_or(!port.is_empty(), |(p, t)| port.eq_ignore_ascii_case(p) && protocol.eq_ignore_ascii_case(t))
        };
        let mut targets: Vec<(Name, Ipv4Addr, u16)> = Vec::new();
        if spec.and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
            for endpoint in self.endpoints(namespace, service_name, records) {
                let Some(target) = self.name(&[&endpoint.hostname, service_name, namespace, "svc"]) else { continue };
                let ports = endpoint.ports.iter().filter(|(port, protocol, _)| is_wanted(port, protocol));
                targets.extend(ports.map(|(_, _, number)| (target.clone(), endpoint.address, *number)));
            }
        } else if let Some(target) = self.name(&[service_name, namespace, "svc"]) {
            for port in spec.into_iter().flat_map(|s| s.ports.iter().flatten()) {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                if is_wanted(port.name.as_deref().unwrap_or_default(), protocol)
                    && let Ok(number) = u16::try_from(port.port)
                {
                    targets.extend(cluster_addresses(service).map(|address| (target.clone(), address, number)));
                }
            }
        }
        if targets.is_empty() {
            return self.no_data();
        }
        let weight = u16::try_from(100 / targets.len()).unwrap_or(1).max(1);
        let srv = |target: &Name, port| RData::SRV(SRV::new(0, weight, port, target.clone()));
        let answers =
            targets.iter().map(|(target, _, port)| Record::from_rdata(name.clone(), TTL_SECONDS, srv(target, *port)));
        let answers = answers.collect();
        targets.dedup_by(|x, y| (&x.0, x.1) == (&y.0, y.1));
        Answer::Records(answers, targets.iter().map(|(target, address, _)| a(target, *address)).collect())
    }

    fn reverse(&self, name: &Name, address: Ipv4Addr, kind: RecordType, records: &dyn Records) -> Answer {
        let mut found = BTreeSet::new();
        for service in records.services_at(address) {
            let (namespace, service) = names(&service);
            found.extend(self.name(&[service, namespace, "svc"]));
        }
        for slice in records.slices_at(address) {
            let Some(service) = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME)) else { continue };
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            for endpoint in self.endpoints(namespace, service, records).iter().filter(|e| e.address == address) {
                found.extend(self.name(&[&endpoint.hostname, service, namespace, "svc"]));
            }
        }
        if !found.is_empty() {
            if kind != RecordType::PTR {
                return self.no_data();
            }
            let record = |target| Record::from_rdata(name.clone(), TTL_SECONDS, RData::PTR(PTR(target)));
            return Answer::Records(found.into_iter().map(record).collect(), Vec::new());
        }
        if self.ranges.iter().any(|range| range.contains(&address)) { self.denied() } else { Answer::Elsewhere }
    }
}

fn a(name: &Name, address: Ipv4Addr) -> Record {
    Record::from_rdata(name.clone(), TTL_SECONDS, RData::A(A(address)))
}

fn names(service: &Service) -> (&str, &str) {
    let metadata = &service.metadata;
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

fn cluster_addresses(service: &Service) -> impl Iterator<Item = Ipv4Addr> {
    let spec = service.spec.as_ref();
    let all: BTreeSet<Ipv4Addr> = spec
        .into_iter()
        .flat_map(|s| s.cluster_ips.iter().flatten().chain(&s.cluster_ip))
        .filter_map(|ip| ip.parse().ok())
        .collect();
    all.into_iter()
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
}

/// `4.3.2.1.in-addr.arpa` is 1.2.3.4.
fn reverse_address(labels: &[String]) -> Option<Ipv4Addr> {
    let [d, c, b, a, in_addr, arpa] = labels else { return None };
    if in_addr != "in-addr" || arpa != "arpa" {
        return None;
    }
    format!("{a}.{b}.{c}.{d}").parse().ok()
}

#[cfg(test)]
#[path = "zone_tests.rs"]
pub(crate) mod tests;
