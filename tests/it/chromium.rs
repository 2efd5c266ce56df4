//! The demo in a real browser: what a person who tries Doorward sees, clicks and types.

use std::path::PathBuf;
use std::time::Duration;

use fantoccini::key::Key;

use crate::support::{Chromium, Demo};

const PHONE: (u32, u32) = (360, 740);
const DESKTOP: (u32, u32) = (1280, 800);

#[tokio::test]
async fn a_person_logs_in_shops_and_logs_out() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, true).await;
    browser.open(&demo.url).await;
    browser.until_heading("Log in").await;
    assert_eq!(browser.title().await, "Log in · localhost");
    look(&browser, "login").await;

    log_in(&browser, &demo.user, "not the password").await;
    browser.until("[role=alert]").await;
    assert_eq!(browser.title().await, "Error: Log in · localhost");
    look(&browser, "wrong-password").await;

    log_in(&browser, &demo.user, &demo.password).await;
    browser.until_heading("Hello, Demo Visitor").await;
    assert_eq!(browser.url().await, demo.url);
    let text = browser.text("body").await;
    for told in [
        "remote-user demo",
        "remote-groups visitors",
        "No cookie is among them.",
    ] {
        assert!(text.contains(told), "{told:?} is not in {text}");
    }
    browser.click("button[value=Bread]").await;
    browser.until(".cart").await;
    browser.fill("#item", "Ünusual <tea>").await;
    browser.click(".line button").await;
    browser.until(".cart li:nth-child(2)").await;
    assert_eq!(browser.text(".cart").await, "Bread\nÜnusual <tea>");
    look(&browser, "home").await;

    browser.follow("Log out").await;
    browser.until_heading("Log out?").await;
    look(&browser, "logout").await;
    browser.click("form button").await;
    browser.until_heading("You are logged out").await;
    look(&browser, "logged-out").await;

    browser.open(&demo.url).await;
    browser.until_heading("Log in").await;
    assert_eq!(
        browser.url().await,
        demo.at("/.doorward/login?return_to=%2F")
    );
    // What the browser kept of the app's page is not shown again either.
    for _ in 0..3 {
        browser.back().await;
        let text = browser.text("body").await;
        assert!(!text.contains("Demo Visitor"), "{text}");
    }
    browser.close().await;
}

#[tokio::test]
async fn the_back_button_leads_to_no_page_of_a_session_that_has_ended() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, true).await;
    browser.open(&demo.url).await;
    browser.until_heading("Log in").await;
    log_in(&browser, &demo.user, &demo.password).await;
    browser.until_heading("Hello, Demo Visitor").await;
    browser.open(&demo.at("/public")).await;
    browser.until_heading("Everybody is welcome here").await;
    // Elsewhere, so that this browser is told nothing and has cleared nothing.
    let mut elsewhere = demo.logged_in("another browser").await;
    let token = elsewhere.open("/.doorward/sessions").await.field("token");
    let fields = [("token", token.as_str()), ("end", "others")];
    let ended = elsewhere.submit("/.doorward/sessions", &fields).await;
    assert_eq!(ended.status, 303);

    browser.back().await;
    browser.until_heading("Log in").await;
    assert!(!browser.text("body").await.contains("Demo Visitor"));
    browser.close().await;
}

#[tokio::test]
async fn what_is_put_into_the_cart_before_the_login_is_in_it_afterwards() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, true).await;
    browser.open(&demo.at("/public")).await;
    browser.until_heading("Everybody is welcome here").await;
    browser.click("button[value=Bread]").await;
    browser.until(".cart").await;
    browser.fill("#item", "Ünusual <tea>").await;
    browser.click(".line button").await;
    browser.until(".cart li:nth-child(2)").await;
    assert_eq!(browser.url().await, demo.at("/public"));
    look(&browser, "visitors-cart").await;

    browser.follow("To the shop").await;
    browser.until_heading("Log in").await;
    log_in(&browser, &demo.user, &demo.password).await;
    browser.until_heading("Hello, Demo Visitor").await;
    assert_eq!(browser.text(".cart").await, "Bread\nÜnusual <tea>");
    browser.click("button[value=Coffee]").await;
    browser.until(".cart li:nth-child(3)").await;
    assert_eq!(browser.url().await, demo.url);
    browser.click("form .quiet").await;
    browser.until(".line").await;
    browser.close().await;
}

#[tokio::test]
async fn a_person_is_told_what_is_wrong() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, true).await;
    browser.open(&demo.at("/public")).await;
    browser.until_heading("Everybody is welcome here").await;
    look(&browser, "public").await;
    browser.open(&demo.at("/staff")).await;
    browser.until_heading("Log in").await;
    log_in(&browser, &demo.user, &demo.password).await;
    for (path, heading, picture) in [
        ("/staff", "You have no access to this", "403"),
        ("/down", "The app does not answer", "502"),
        ("/nowhere", "Nothing here", "404"),
        ("/.doorward/nowhere", "Nothing is here", "404-own"),
        ("/.doorward/login", "You are logged in", "signed-in"),
    ] {
        if browser.url().await != demo.at(path) {
            browser.open(&demo.at(path)).await;
        }
        browser.until_heading(heading).await;
        look(&browser, picture).await;
    }
    browser.close().await;
}

#[tokio::test]
async fn the_keyboard_is_enough_and_scripts_are_not_needed() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, false).await;
    browser.open(&demo.at("/?x=1")).await;
    browser.until_heading("Log in").await;
    // The cursor is in the first field that is empty.
    browser.keys(&demo.user).await;
    browser.keys(&Key::Tab.to_string()).await;
    browser.keys(&demo.password).await;
    browser.keys(&Key::Enter.to_string()).await;
    browser.until_heading("Hello, Demo Visitor").await;
    assert_eq!(browser.url().await, demo.at("/?x=1"));

    browser.open(&demo.at("/.doorward/logout")).await;
    browser.until_heading("Log out?").await;
    browser.keys(&Key::Tab.to_string()).await;
    browser.keys(&Key::Enter.to_string()).await;
    browser.until_heading("You are logged out").await;
    browser.close().await;
}

#[tokio::test]
async fn the_fragment_survives_the_login_also_a_failed_one_and_without_scripts() {
    for scripts in [true, false] {
        let demo = Demo::start();
        let browser = Chromium::start(&demo, scripts).await;
        browser.open(&demo.at("/?x=1#part/2?y=3")).await;
        browser.until_heading("Log in").await;
        log_in(&browser, &demo.user, "not the password").await;
        browser.until("[role=alert]").await;
        log_in(&browser, &demo.user, &demo.password).await;
        browser.until_heading("Hello, Demo Visitor").await;
        assert_eq!(browser.url().await, demo.at("/?x=1#part/2?y=3"));
        browser.close().await;
    }
}

#[tokio::test]
async fn a_tab_that_still_shows_the_login_goes_on_to_its_page_when_another_has_logged_in() {
    for scripts in [true, false] {
        let demo = Demo::start();
        let browser = Chromium::start(&demo, scripts).await;
        browser.open(&demo.url).await;
        browser.until_heading("Log in").await;
        log_in(&browser, &demo.user, &demo.password).await;
        browser.until_heading("Hello, Demo Visitor").await;
        let login = "/.doorward/login?return_to=%2F%3Fx%3D1#part/2?y=3";
        browser.open(&demo.at(login)).await;
        browser.until_heading("You are logged in").await;
        browser.click("form button").await;
        browser.until_heading("Hello, Demo Visitor").await;
        assert_eq!(browser.url().await, demo.at("/?x=1#part/2?y=3"));
        browser.close().await;
    }
}

#[tokio::test]
async fn tabs_log_in_at_once_and_each_returns_to_its_own_page() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, true).await;
    let mut tabs = Vec::new();
    for tab in 0..4 {
        let path = format!("/?tab={tab}#{tab}");
        let window = browser.client.new_window(true).await.unwrap().handle;
        browser
            .client
            .switch_to_window(window.clone())
            .await
            .unwrap();
        browser.open(&demo.at(&path)).await;
        browser.until_heading("Log in").await;
        tabs.push((window, path));
    }
    let cookies = browser.client.get_all_cookies().await.unwrap();
    assert_eq!(cookies.len(), 1, "one for all of them");
    assert_eq!(cookies[0].name(), "__Host-sid-browser");
    assert!(cookies[0].value().len() < 160, "and a small one");
    for (window, path) in tabs {
        browser.client.switch_to_window(window).await.unwrap();
        log_in(&browser, &demo.user, &demo.password).await;
        browser.until_heading("Hello, Demo Visitor").await;
        assert_eq!(browser.url().await, demo.at(&path));
    }
    browser.close().await;
}

#[tokio::test]
async fn who_goes_round_in_circles_is_told_why_and_may_go_on() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, true).await;
    for _ in 0..3 {
        // By way of another page: to the same one with its fragment nothing would be loaded.
        browser.open("about:blank").await;
        browser.open(&demo.at("/?x=1#part")).await;
        browser.until_heading("Log in").await;
        log_in(&browser, &demo.user, &demo.password).await;
        browser.until_heading("Hello, Demo Visitor").await;
        browser.client.delete_cookie("__Host-sid").await.unwrap();
    }
    browser.open("about:blank").await;
    browser.open(&demo.at("/?x=1#part")).await;
    browser
        .until_heading("Logging in goes round in circles")
        .await;
    look(&browser, "going-round").await;
    browser.click("form button").await;
    browser.until_heading("Log in").await;
    log_in(&browser, &demo.user, &demo.password).await;
    browser.until_heading("Hello, Demo Visitor").await;
    assert_eq!(browser.url().await, demo.at("/?x=1#part"));
    browser.close().await;
}

#[tokio::test]
async fn a_stream_ends_when_another_tab_logs_out() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, true).await;
    browser.open(&demo.at("/clock")).await;
    browser.until_heading("Log in").await;
    log_in(&browser, &demo.user, &demo.password).await;
    browser.until("#clock:not(.waiting)").await;
    look(&browser, "clock").await;
    let clock = browser.client.window().await.unwrap();

    let other = browser.client.new_window(true).await.unwrap();
    browser.client.switch_to_window(other.handle).await.unwrap();
    browser.open(&demo.at("/.doorward/logout")).await;
    browser.click("form button").await;
    browser.until_heading("You are logged out").await;

    browser.client.switch_to_window(clock).await.unwrap();
    browser.until("#clock.waiting").await;
    browser.close().await;
}

#[tokio::test]
async fn a_person_is_told_before_the_session_ends_and_can_stay() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, true).await;
    browser.open(&demo.url).await;
    browser.until_heading("Log in").await;
    log_in(&browser, &demo.user, &demo.password).await;
    browser.until_heading("Hello, Demo Visitor").await;

    // Of the half hour that a session may idle, all but three seconds is late enough.
    include_script(&browser, 1797).await;
    assert!(!has_notice(&browser).await, "not yet");
    browser.until("#doorward-session-notice").await;
    let text = browser.text("#doorward-session-notice [role=alert]").await;
    assert_eq!(text, "You will be logged out in 30 minutes.");
    look(&browser, "session-notice").await;
    browser.click("#doorward-session-notice button").await;
    until_no_notice(&browser).await;
    browser.until("#doorward-session-notice").await;

    // The end, which another tab brings about, leads to the login.
    let page = browser.client.window().await.unwrap();
    let other = browser.client.new_window(true).await.unwrap();
    browser.client.switch_to_window(other.handle).await.unwrap();
    browser.open(&demo.at("/.doorward/logout")).await;
    browser.click("form button").await;
    browser.until_heading("You are logged out").await;
    // A page that comes to the front asks at once.
    browser.client.switch_to_window(page).await.unwrap();
    browser.until_heading("Log in").await;
    browser.close().await;
}

#[tokio::test]
async fn where_only_a_new_login_helps_the_notice_leads_there() {
    let demo = Demo::start();
    let browser = Chromium::start(&demo, true).await;
    browser.open(&demo.url).await;
    browser.until_heading("Log in").await;
    log_in(&browser, &demo.user, &demo.password).await;
    browser.until_heading("Hello, Demo Visitor").await;
    // As if the absolute end were near: idle and absolute end are the same then.
    let told = "const ask = window.fetch; window.fetch = (to, how) => to === '/.doorward/session' \
                ? Promise.resolve(new Response('{\"idle_seconds_left\": 90, \"absolute_seconds_left\": 90}')) \
                : ask(to, how);";
    browser.client.execute(told, vec![]).await.unwrap();
    include_script(&browser, 120).await;
    browser.until("#doorward-session-notice a").await;
    let text = browser.text("#doorward-session-notice [role=alert]").await;
    assert_eq!(text, "You will be logged out in 2 minutes.");
    browser
        .client
        .execute("location.hash = 'later'", vec![])
        .await
        .unwrap();
    browser.follow("Log in again").await;
    browser.until_heading("Log in again").await;
    assert!(browser.text("main").await.contains(&demo.user));
    look(&browser, "login-again").await;
    browser.fill("#password", &demo.password).await;
    browser.click("button").await;
    browser.until_heading("Hello, Demo Visitor").await;
    assert_eq!(browser.url().await, demo.at("/#later"));
    browser.close().await;
}

/// As an app's page would include it.
async fn include_script(browser: &Chromium, warn: u32) {
    let include = format!(
        "const script = document.createElement('script'); script.src = '/.doorward/session.js'; \
         script.dataset.warn = '{warn}'; document.head.append(script);"
    );
    browser.client.execute(&include, vec![]).await.unwrap();
}

async fn has_notice(browser: &Chromium) -> bool {
    let look = "return document.getElementById('doorward-session-notice') !== null";
    browser.client.execute(look, vec![]).await.unwrap() == true
}

async fn until_no_notice(browser: &Chromium) {
    for _ in 0..800 {
        if !has_notice(browser).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the notice stays");
}

#[tokio::test]
async fn a_person_ends_a_session_that_they_do_not_know() {
    const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                         Version/17.6 Mobile/15E148 Safari/604.1";
    const TABLET: &str = "Mozilla/5.0 (Linux; Android 14; SM-X910) AppleWebKit/537.36 (KHTML, like Gecko) \
                          SamsungBrowser/25.0 Chrome/121.0.0.0 Safari/537.36";
    for scripts in [true, false] {
        let demo = Demo::start();
        let browser = Chromium::start(&demo, scripts).await;
        browser.open(&demo.at("/.doorward/sessions")).await;
        browser.until_heading("Log in").await;
        log_in(&browser, &demo.user, &demo.password).await;
        browser.until_heading("Where you are logged in").await;
        let mut others = Vec::new();
        if scripts {
            look(&browser, "sessions-alone").await;
        }
        for agent in [IPHONE, TABLET, "curl/8.9.1"] {
            others.push(demo.logged_in(agent).await);
        }
        browser.open(&demo.at("/.doorward/login")).await;
        browser.follow("Where you are logged in").await;
        browser.until_heading("Where you are logged in").await;
        let text = browser.text("main").await;
        for told in [
            "Safari on iPhone",
            "Samsung Internet on Android",
            "curl",
            "This device",
            "127.0.0.1",
        ] {
            assert!(text.contains(told), "{told:?} is not in {text}");
        }
        if scripts {
            look(&browser, "sessions").await;
            assert_eq!(unreadable(&browser).await, "");
        }
        let who = others[2].fetch("/.doorward/session").await.json();
        let sid = who["sid"].as_str().unwrap();
        browser.click(&format!("button[value='{sid}']")).await;
        browser.until("[role=status]").await;
        if scripts {
            look(&browser, "sessions-done").await;
        }
        assert_eq!(others[2].fetch("/").await.status, 401);
        assert_eq!(others[0].fetch("/").await.status, 200);
        browser.click("button[value=others]").await;
        browser.until(".sessions li:only-child").await;
        for other in &mut others {
            assert_eq!(other.fetch("/").await.status, 401);
        }
        browser.follow("Log out here").await;
        browser.until_heading("Log out?").await;
        browser.click("form button").await;
        browser.until_heading("You are logged out").await;
        browser.close().await;
    }
}

/// What has less contrast than WCAG AA asks for (4.5 to 1), or is a smaller target than it allows (24 by 24).
pub async fn unreadable(browser: &Chromium) -> String {
    const LOOK: &str = r#"
        const rgb = text => text.match(/[\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
        const behind = element => {
            for (; element; element = element.parentElement) {
                const color = rgb(getComputedStyle(element).backgroundColor);
                if (color.length < 4 || color[3] > 0) return color;
            }
            return [255, 255, 255];
        };
        const faults = [];
        for (const element of document.querySelectorAll("main *")) {
            const style = getComputedStyle(element);
            const words = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
            if (words && style.position !== "absolute") {
                const [a, b] = [light(rgb(style.color)), light(behind(element))];
                const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
                if (contrast < 4.5) faults.push(`${contrast.toFixed(2)}: ${element.textContent.trim()}`);
            }
            if (element.matches("a, button")) {
                const box = element.getBoundingClientRect();
                if (box.width < 24 || box.height < 24) faults.push(`small: ${element.textContent.trim()}`);
            }
        }
        return faults.join("\n");
    "#;
    let mut all = String::new();
    for scheme in ["light", "dark"] {
        browser.show_as(PHONE, scheme).await;
        let faults = browser.client.execute(LOOK, vec![]).await.unwrap();
        all.push_str(faults.as_str().unwrap());
    }
    browser.show_as(DESKTOP, "light").await;
    all
}

async fn log_in(browser: &Chromium, user: &str, password: &str) {
    browser.fill("#user", user).await;
    browser.fill("#password", password).await;
    browser.click("button").await;
}

/// Looks at the page as phones and desktops show it, light and dark: nothing may stick out at the side. With
/// `DOORWARD_SCREENSHOTS` set to a folder, pictures are left there for people.
pub async fn look(browser: &Chromium, page: &str) {
    let pictures = std::env::var_os("DOORWARD_SCREENSHOTS").map(PathBuf::from);
    for (device, size) in [("phone", PHONE), ("desktop", DESKTOP)] {
        for scheme in ["light", "dark"] {
            browser.show_as(size, scheme).await;
            let measure = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth, innerWidth, \
                           getComputedStyle(document.body).backgroundColor]";
            let seen = browser.client.execute(measure, vec![]).await.unwrap();
            assert_eq!(seen[2], size.0, "{page} on a {device}");
            assert_eq!(
                seen[0], seen[1],
                "{page} on a {device} has to be scrolled to the side"
            );
            let is_bright = brightness(seen[3].as_str().unwrap()) > 128 * 3;
            assert_eq!(is_bright, scheme == "light", "{page}, {scheme}: {seen}");
            if let Some(folder) = &pictures {
                let picture = browser.client.screenshot().await.unwrap();
                std::fs::write(
                    folder.join(format!("{page}-{device}-{scheme}.png")),
                    picture,
                )
                .unwrap();
            }
        }
    }
    browser.show_as(DESKTOP, "light").await;
}

/// Of `rgb(r, g, b)`: the sum.
fn brightness(color: &str) -> u32 {
    let numbers = color.split(|c: char| !c.is_ascii_digit());
    numbers
        .filter_map(|number| number.parse::<u32>().ok())
        .sum()
}
