// Turn the page that is open into the whole book: its articles one after the other, as one document.
// parts: [[caption, [[name, address, HTML], ...]], ...]; the first page is the title page.
async (parts) => {
  const FOLDED = 'details.hide', TO_CLICK = '.headerlink, .sd-container-fluid, nav.runs, script';
  const addresses = new Map(parts.flatMap(([, pages]) => pages.map(([name, url]) => [url, name])));
  const idOf = (name, fragment) => fragment ? `${name}--${fragment}` : name;
  const make = (tag, attributes, ...children) => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
  };

  // A link to a page of the book becomes one within the document; one to another file, plain text.
  const link = (a, name, url) => {
    const target = new URL(a.getAttribute('href'), url);
    const [page, fragment] = [target.href.split('#')[0], target.hash.slice(1)];
    if (addresses.has(page)) a.href = '#' + idOf(addresses.get(page), decodeURIComponent(fragment));
    else if (target.protocol === 'file:') a.removeAttribute('href');
  };

  const articleOf = (name, url, html) => {
    const article = new DOMParser().parseFromString(html, 'text/html').querySelector('article');
    const run = article.querySelector('nav.runs [aria-current]')?.textContent;
    for (const gone of article.querySelectorAll(`${FOLDED}, ${TO_CLICK}`)) gone.remove();
    for (const cell of article.querySelectorAll('div.cell'))
      if (!cell.textContent.trim() && !cell.querySelector('img')) cell.remove();
    for (const fold of article.querySelectorAll('details')) fold.open = true;
    for (const image of article.querySelectorAll('img'))
      image.src = new URL(image.getAttribute('src'), url).href;
    for (const a of article.querySelectorAll('a[href]')) link(a, name, url);
    for (const e of article.querySelectorAll('[id]')) e.id = idOf(name, e.id);
    article.id = name;
    return [article, run];
  };

  const contents = make('ol', {}), body = make('div', {className: 'bd-content printed'});
  const heads = [];
  for (const [caption, pages] of parts) {
    if (caption) contents.append(make('li', {className: 'part'}, caption));
    for (const [name, url, html] of pages) {
      const [article, run] = articleOf(name, url, html);
      const isTitle = !body.children.length, title = article.querySelector('h1');
      body.append(article);
      if (isTitle) {
        if (run) title.after(make('p', {className: 'measured-on'}, run));
        continue;
      }
      // Chromium knows no running heads; but pages can have names, and each name its own head.
      const text = CSS.escape(title.textContent);
      article.style.page = CSS.escape(name);
      heads.push(`@page ${CSS.escape(name)} { @top-right { content: "${text}" } }`);
      for (const heading of article.querySelectorAll('h1, h2')) {
        const href = '#' + heading.closest('section').id;
        contents.append(make('li', {className: heading === title ? 'chapter' : 'section'},
          make('a', {href}, heading.textContent), make('a', {href, className: 'number'})));
      }
    }
  }
  body.firstElementChild.after(
    make('nav', {className: 'printed-contents'}, make('h1', {}, 'Contents'), contents));
  document.head.append(make('style', {}, heads.join('\n')));
  document.title = body.querySelector('h1').textContent;
  document.documentElement.dataset.theme = 'light';
  document.body.replaceChildren(body);
  await window.MathJax?.typesetPromise?.();
  await Promise.all([...document.images].map((image) => image.decode()));
}
