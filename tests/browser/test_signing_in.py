"""Signing in with a real browser and its virtual authenticator."""

from __future__ import annotations

import asyncio
from typing import Any

from selenium.common.exceptions import (
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
    WebDriverException,
)
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from domain.kernel import PLATFORM
from tests.api.signing_in import PASSWORD, carrying, registered, told_in
from tests.browser.conftest import Site, text_of

ADA = "ada@example.com"
WAIT_S = 30
NOT_YET = (StaleElementReferenceException, NoSuchElementException, ElementNotInteractableException)
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


def until(chrome: Chrome, seen: Any, passing: tuple[type[WebDriverException], ...] = (WebDriverException,)) -> None:
    """Wait; pages come and go meanwhile, and what was found on the last one is no longer there (`passing`)."""
    WebDriverWait(chrome, WAIT_S, ignored_exceptions=passing).until(seen)


def press(chrome: Chrome, selector: str) -> None:
    """Press a button as soon as it is there and can be pressed: scripts show some of them a moment after the page."""
    until(chrome, lambda there: there.find_element(By.CSS_SELECTOR, selector).click() or True, NOT_YET)


def shows(text: str) -> Any:
    return lambda chrome: text in text_of(chrome)


def by_password(chrome: Chrome) -> None:
    """Keyboard only: the address has the focus, Tab leads to the password, Enter sends."""
    until(chrome, lambda there: there.switch_to.active_element.get_dom_attribute("id") == "email")
    chrome.switch_to.active_element.send_keys(ADA, Keys.TAB, PASSWORD, Keys.ENTER)


def enrol(chrome: Chrome, url: str, name: str) -> str:
    """Sign in by password, add a passkey, sign out; the authenticator's id."""
    chrome.execute_cdp_cmd("WebAuthn.enable", {})
    made = chrome.execute_cdp_cmd("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    chrome.get(f"{url}/passkeys")
    by_password(chrome)
    until(chrome, shows("You have no passkey yet"))
    field = "#passkey-name"
    until(chrome, lambda there: there.find_element(By.CSS_SELECTOR, field).send_keys(name, Keys.ENTER) or True, NOT_YET)
    until(chrome, shows(name))
    press(chrome, "nav form button")
    until(chrome, shows("Mail me a link instead"))
    return str(made["authenticatorId"])


async def test_a_passkey_is_added_used_and_removed(chrome: Chrome, site: Site) -> None:
    await registered(site.http, site.house, ADA)

    def browse() -> None:
        enrol(chrome, site.url, "My laptop")
        press(chrome, "#passkey-login")
        until(chrome, shows("My laptop"))
        until(chrome, lambda there: there.refresh() or "last used" in text_of(there))
        press(chrome, "li button")
        until(chrome, shows("You have no passkey yet"))

    await asyncio.to_thread(browse)
    methods = [one.event.method for one in await site.house.store.find(PLATFORM, type="user.logged_in.v1")]
    assert methods == ["password", "passkey"]
    assert await told_in(site.house, "passkey.registered.v1", "name") == "My laptop"


async def test_a_copied_authenticator_is_refused(chrome: Chrome, site: Site) -> None:
    await registered(site.http, site.house, ADA)

    def browse() -> None:
        authenticator = enrol(chrome, site.url, "Copied")
        which = {"authenticatorId": authenticator}
        (before,) = chrome.execute_cdp_cmd("WebAuthn.getCredentials", which)["credentials"]
        press(chrome, "#passkey-login")
        until(chrome, shows("Copied"))
        press(chrome, "nav form button")
        until(chrome, shows("Mail me a link instead"))
        # The copy counts on from where it was taken: what it says was said before.
        chrome.execute_cdp_cmd("WebAuthn.clearCredentials", which)
        chrome.execute_cdp_cmd("WebAuthn.addCredential", {**which, "credential": before})
        press(chrome, "#passkey-login")
        until(chrome, shows("cannot sign in"))

    await asyncio.to_thread(browse)
    (failed,) = await site.house.store.find(PLATFORM, type="user.login_failed.v1")
    assert failed.event.reason == "sign_count"


async def test_a_device_is_let_in_on_a_page_without_scripts(chrome: Chrome, site: Site) -> None:
    await registered(site.http, site.house, ADA)
    told = (await site.http.post("/api/v1/auth/device", json={"client_id": "build server"})).json()

    def browse() -> None:
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        chrome.get(told["verification_uri_complete"])
        by_password(chrome)
        until(chrome, shows("build server"))
        assert told["user_code"] in text_of(chrome)
        press(chrome, "button[value=approve]")
        until(chrome, shows("You can close this page"))

    await asyncio.to_thread(browse)
    pair = await site.http.post("/api/v1/auth/token", json={"device_code": told["device_code"]})
    assert pair.status_code == 200
    me = await site.http.get("/api/v1/auth/organizations", headers=carrying(pair.json()))
    assert me.status_code == 200


async def test_a_mailed_link_signs_in_with_one_press(chrome: Chrome, site: Site) -> None:
    await registered(site.http, site.house, ADA)

    def ask() -> None:
        chrome.get(f"{site.url}/login")
        chrome.find_element(By.ID, "email").send_keys(ADA)
        press(chrome, "button[formaction]")
        until(chrome, shows("a mail with a link is on its way"))

    await asyncio.to_thread(ask)
    token = await told_in(site.house, "magic_link.requested.v1")

    def follow() -> None:
        chrome.get(f"{site.url}/login/magic?token={token}")
        until(chrome, lambda there: there.switch_to.active_element.tag_name == "button")
        chrome.switch_to.active_element.send_keys(Keys.ENTER)
        until(chrome, shows("You have no passkey yet"))

    await asyncio.to_thread(follow)
