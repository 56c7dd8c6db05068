//! What people are told when connections of the interlink come to nothing.

use crate::appliance::LinkRefusal;
use crate::status::InterlinkStatus;
use crate::testing::TwoControllers;

fn interlink(duo: &TwoControllers) -> InterlinkStatus {
    duo.controllers[0].status().interlink
}

#[test]
fn a_refusal_is_told_with_what_to_do_and_forgotten_when_the_two_meet() {
    let cases = [
        (LinkRefusal::OtherIsPlain, "beta does not encrypt the interlink and this controller encrypts"),
        (LinkRefusal::OtherIsEncrypted, "beta encrypts the interlink and this controller does not encrypt"),
        (LinkRefusal::WrongCertificate, "another certificate than the one kept here for beta"),
        (LinkRefusal::CertificateRefused, "beta keeps another certificate for this controller"),
        (LinkRefusal::NoProof, "beta does not prove itself on an interlink without encryption"),
        (LinkRefusal::WrongProof, "proves itself with another secret than the one kept here"),
    ];
    for (refusal, said) in cases {
        let mut duo = TwoControllers::new(1, true);
        duo.controllers[0].on_link_refused(refusal);
        let InterlinkStatus { up, refused, reason, .. } = interlink(&duo);
        assert!(!up && refused && reason.as_ref().is_some_and(|reason| reason.contains(said)), "{reason:?}");
        duo.connect();
        duo.settle(2);
        assert!(interlink(&duo).up && interlink(&duo).reason.is_none());
    }
}

#[test]
fn who_has_met_its_peer_does_not_care_for_strangers() {
    let mut duo = TwoControllers::new(2, true);
    duo.connect();
    duo.settle(2);
    duo.controllers[0].on_link_refused(LinkRefusal::WrongCertificate);
    assert!(interlink(&duo).up);
    duo.cut();
    assert!(!interlink(&duo).refused, "{:?}", interlink(&duo));
}

#[test]
fn of_two_that_refuse_each_other_each_says_what_it_saw_itself() {
    let duo = TwoControllers::new(3, true);
    duo.controllers[0].on_link_refused(LinkRefusal::CertificateRefused);
    duo.controllers[0].on_link_refused(LinkRefusal::WrongCertificate);
    let said = interlink(&duo);
    duo.controllers[0].on_link_refused(LinkRefusal::CertificateRefused);
    assert_eq!(interlink(&duo), said);
    assert!(said.reason.is_some_and(|reason| reason.contains("kept here for beta")));
}
