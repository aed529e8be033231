// Turn the page that is open into the whole book: its articles one after the other, as one document.
// parts: [[caption, [[name, address, HTML], ...]], ...]; the first page is the title page.
async (parts) => {
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
    for (const gone of article.querySelectorAll('details.hide, .headerlink, .sd-container-fluid, script'))
      gone.remove();
    for (const cell of article.querySelectorAll('div.cell')) if (!cell.innerText.trim() && !cell.querySelector('img')) cell.remove();
    for (const fold of article.querySelectorAll('details')) fold.open = true;
    for (const image of article.querySelectorAll('img')) image.src = new URL(image.getAttribute('src'), url).href;
    for (const a of article.querySelectorAll('a[href]')) link(a, name, url);
    for (const e of article.querySelectorAll('[id]')) e.id = idOf(name, e.id);
    article.id = name;
    return article;
  };

  const contents = make('ol', {}), body = make('div', {className: 'bd-content printed'});
  const heads = [];
  for (const [caption, pages] of parts) {
    if (caption) contents.append(make('li', {className: 'part'}, caption));
    for (const [name, url, html] of pages) {
      const article = articleOf(name, url, html);
      const title = article.querySelector('h1').textContent;
      article.style.page = name;
      // Chromium knows no running heads; but pages can have names, and each name its own head.
      if (body.children.length)
        heads.push(`@page ${CSS.escape(name)} { @top-right { content: "${CSS.escape(title)}" } }`);
      body.append(article);
      if (body.children.length === 1) continue;  // the title page
      for (const heading of article.querySelectorAll('h1, h2')) {
        const target = heading.closest('section').id;
        const line = make('a', {href: '#' + target}, heading.textContent);
        contents.append(make('li', {className: heading.tagName === 'H1' ? 'chapter' : 'section'}, line,
          make('a', {className: 'number', href: '#' + target})));
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
