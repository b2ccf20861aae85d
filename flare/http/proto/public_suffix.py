"""Under which names anybody can register: a small rule set in place of the Public Suffix List.

A site must not set a cookie for all of ``co.uk``. The whole list has ten thousand rules and changes
weekly; these are few, and change with a release. They know

- every name of one label (``com``, ``localhost``),
- the second levels that country registries register under (``co.uk``, ``com.au``, ``or.jp``),
- names under which the big hosters give each customer one (``github.io``, ``herokuapp.com``).

Where a rule is too coarse it takes a name for a suffix that is none, and that site's cookies stay
with the host that set them. Not every hoster is known here: who needs the whole list gives a
function of their own to ``ClientCookieJar``.
"""

from __future__ import annotations

__all__ = ["is_public_suffix", "registrable_domain"]

_EVERY_COUNTRY = frozenset("ac co com edu gob gov mil net org".split())

# Countries that register under the second level only.
_NOTHING_DIRECTLY = frozenset("bd ck er fk jm kh mm np pg".split())

_BY_COUNTRY = {
    country: frozenset(words.split())
    for country, words in {
        "ae": "sch",
        "ar": "int tur musica",
        "at": "gv or",
        "au": "asn id",
        "br": "adm adv agr am app art bio blog eco emp eng etc far flog fm fnd fot fst g12 ind inf "
        "jor jus leg mus nom not ntr odo pro psc psi radio rec srv taxi tec tmp trd tur tv vet "
        "vlog wiki zlg",
        "ca": "ab bc gc mb nb nf nl ns nt nu on pe qc sk yk",
        "cn": "ah bj cq fj gd gs gx gz ha hb he hi hk hl hn jl js jx ln mo nm nx qh sc sd sh sn sx "
        "tj tw xj xz yn zj",
        "cy": "biz ekloges ltd press pro tm",
        "es": "nom",
        "fr": "asso gouv nom prd tm",
        "hk": "idv",
        "hu": "info priv sport tm",
        "id": "biz desa go my or ponpes sch web",
        "il": "idf k12 muni",
        "in": "firm gen ind nic res",
        "ir": "id sch",
        "jp": "ad ed go gr lg ne or",
        "ke": "go info me mobi ne or sc",
        "kr": "es go hs kg ms ne or pe re sc",
        "lk": "assn grp hotel int ltd ngo sch soc web",
        "my": "name",
        "ng": "mobi name sch",
        "nz": "cri geek gen govt health iwi kiwi maori parliament school",
        "ph": "ngo",
        "pk": "biz fam gok gon gop gos info web",
        "pl": "biz info mail media nom pc priv shop sos szkola",
        "pt": "int nome publ",
        "ru": "msk pp spb",
        "sa": "med pub sch",
        "sg": "per",
        "th": "go in mi or",
        "tr": "av bbs bel biz dr gen info k12 kep name pol tel tsk tv web",
        "tw": "club ebiz game idv",
        "tz": "go hotel info me mobi ne or sc tv",
        "ua": "cherkasy dp if in kh kharkov kiev kyiv lviv od odesa pp zp",
        "ug": "go ne or sc",
        "uk": "ltd me nhs plc police sch",
        "us": "ak al ar az ca ct dc de fed fl ga hi ia id il in ks ky la ma md me mi mn mo ms mt "
        "nc nd ne nh nj nm nv ny oh ok or pa ri sc sd tn tx ut va vt wa wi wv wy",
        "vn": "biz health info int name pro",
        "za": "agric alt law nis nom school tm web",
    }.items()
}

_HOSTERS = frozenset(
    """
    altervista.org amplifyapp.com appspot.com azure-api.net azureedge.net azurestaticapps.net
    azurewebsites.net bitbucket.io blogspot.com br.com cloudapp.net cloudfront.net cn.com
    codeberg.page deno.dev duckdns.org eu.org firebaseapp.com fly.dev gb.net github.io
    githubusercontent.com gitlab.io glitch.me herokuapp.com jp.net jpn.com myshopify.com netlify.app
    neocities.org ngrok.app ngrok.io no-ip.org now.sh onrender.com pages.dev pythonanywhere.com
    r2.dev railway.app readthedocs.io repl.co ru.com run.app sa.com se.net surge.sh
    trafficmanager.net translate.goog uk.com uk.net us.com vercel.app web.app webflow.io workers.dev
    za.com
    """.split()
)

# These put regions and services in between; nothing under them is shared by several hosts.
_CLOUDS = (".amazonaws.com", ".azure.com", ".elasticbeanstalk.com", ".on.aws")


def is_public_suffix(domain: str) -> bool:
    """Whether *domain* (lower case, no dot at either end) is no one site's own.

    >>> [is_public_suffix(each) for each in ("com", "co.uk", "example.co.uk", "example.com")]
    [True, True, False, False]
    """
    first, dot, rest = domain.partition(".")
    if not dot or domain in _HOSTERS or f".{domain}".endswith(_CLOUDS):
        return True
    return (len(rest) == 2 and first in _EVERY_COUNTRY) or (
        rest in _NOTHING_DIRECTLY or first in _BY_COUNTRY.get(rest, ())
    )


def registrable_domain(host: str) -> str:
    """The part of *host* that somebody registered: a suffix and the label before it, or *host*
    where that is a suffix itself.

    >>> registrable_domain("a.b.example.co.uk")
    'example.co.uk'
    """
    labels = host.split(".")
    for start in range(1, len(labels)):
        if is_public_suffix(".".join(labels[start:])):
            return ".".join(labels[start - 1 :])
    return host
